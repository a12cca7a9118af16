// SPDX-License-Identifier: BSD-3-Clause
// A running migration as a few lines for people. Run by godwit's only thread.
// Invariant: no line is longer than it was asked for, or a terminal could not be rewritten in
// place.

#include "view.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "report.h"
#include "unit.h"

#define PAGE 4096.0
#define BAR  8

void view_init(struct view *v, const char *name)
{
	memset(v, 0, sizeof(*v));
	v->name = name;
	v->passed = json_array();
}

void view_fini(struct view *v)
{
	json_decref(v->state);
	json_decref(v->pass);
	json_decref(v->progress);
	json_decref(v->passed);
	memset(v, 0, sizeof(*v));
}

static void keep(json_t **what, const json_t *event)
{
	json_decref(*what);
	*what = event != NULL ? json_incref((json_t *)event) : NULL;
}

bool view_take(struct view *v, const json_t *event)
{
	const char *what = report_text(event, "event");

	if (strcmp(what, "state") == 0) {
		keep(&v->state, event);
	} else if (strcmp(what, "pass") == 0) {
		keep(&v->pass, event);
		keep(&v->progress, NULL);
	} else if (strcmp(what, "progress") == 0 || strcmp(what, "placing") == 0) {
		keep(&v->progress, event);
	} else if (strcmp(what, "passed") == 0) {
		json_array_append(v->passed, (json_t *)event);
		keep(&v->pass, NULL);
	} else {
		return false;
	}
	return true;
}

void view_seed(struct view *v, const json_t *session)
{
	const json_t *before = json_object_get(json_object_get(session, "report"), "passes_detail");
	const json_t *pass = json_object_get(session, "under_way");

	if (json_is_object(session))
		keep(&v->state, session);
	if (json_is_array(before))
		json_array_extend(v->passed, (json_t *)before);
	if (json_is_object(pass))
		keep(&v->pass, pass);
}

static uint64_t count(double v)
{
	return v > 0 && v < 1e18 ? (uint64_t)v : 0;
}

static bool known(const json_t *o, const char *key)
{
	return json_is_number(json_object_get(o, key));
}

static void put_time(FILE *out, double s)
{
	if (s < 120)
		fprintf(out, "%.1f s", s);
	else if (s < 7200)
		fprintf(out, "%.0f min", s / 60);
	else
		fprintf(out, "%.1f h", s / 3600);
}

void view_put_forecast(FILE *out, const json_t *p)
{
	/* Before pass 1 has been looked at nobody knows how much the guest writes. */
	if (known(p, "ends_ms")) {
		fputs(", ends in about ", out);
		put_time(out, report_number(p, "ends_ms") / 1e3);
	} else if (known(p, "pass_ends_ms")) {
		fprintf(out, ", pass %.0f ends in about ", report_number(p, "pass"));
		put_time(out, report_number(p, "pass_ends_ms") / 1e3);
	}
	if (known(p, "pause_ms"))
		fprintf(out, ", pause about %.0f ms", report_number(p, "pause_ms"));
}

static void head(const struct view *v, FILE *out)
{
	const json_t *p = v->progress;

	if (v->state != NULL)
		fprintf(out, "%s: %s (%s)", v->name, report_text(v->state, "state"),
			report_text(v->state, "stage"));
	else /* the first is told when it changes */
		fprintf(out, "%s: preparing", v->name);
	if (p != NULL) {
		fputs(", ", out);
		put_time(out, report_number(p, "elapsed_ms") / 1e3);
		view_put_forecast(out, p);
	} else if (known(v->pass, "expected_pause_ms")) {
		fprintf(out, ", expected pause %.0f ms",
			report_number(v->pass, "expected_pause_ms"));
	}
	fputc('\n', out);
}

/* Pages that did not have to go, whatever the reason. */
static double left_out(const json_t *o)
{
	return report_number(o, "skipped_pages") + report_number(o, "balloon_pages") +
	       report_number(o, "free_pages");
}

/* "254 (holes 250, balloon 4)": why, where anything was left out. */
static void put_left_out(FILE *out, const json_t *o)
{
	static const struct {
		const char *key, *name;
	} reasons[] = {
		{"skipped_pages", "holes"}, {"balloon_pages", "balloon"}, {"free_pages", "free"}};
	const char *before = " (";

	fprintf(out, "%.0f", left_out(o));
	for (unsigned i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (report_number(o, reasons[i].key) > 0) {
			fprintf(out, "%s%s %.0f", before, reasons[i].name,
				report_number(o, reasons[i].key));
			before = ", ";
		}
	if (*before == ',')
		fputc(')', out);
}

static void pass_row(FILE *out, const json_t *o, const json_t *counts)
{
	fprintf(out, "%5.0f %-5.5s%10.0f%10.0f%10.0f%10.0f%10.0f", report_number(o, "pass"),
		report_text(o, "kind"),
		report_number(o, "dirty_pages") + report_number(o, "hole_pages"),
		report_number(counts, "pages_data"), report_number(counts, "pages_zero"),
		report_number(counts, "pages_hole"), left_out(o));
}

static void bar(FILE *out, double share)
{
	int full = share < 0 ? 0 : share > 1 ? BAR : (int)(share * BAR);

	fprintf(out, " %3.0f %% [", 100 * share);
	for (int i = 0; i < BAR; i++)
		fputc(i < full ? '#' : '.', out);
	fputs("]\n", out);
}

static void passes(const struct view *v, FILE *out)
{
	const json_t *last;
	size_t n = json_array_size(v->passed), first = n > VIEW_PASSES ? n - VIEW_PASSES : 0;

	fprintf(out, "%5s %-5s%10s%10s%10s%10s%10s\n", "pass", "kind", "to send", "sent", "zero",
		"holes", "left out");
	for (size_t i = first; i < n; i++) {
		const json_t *o = json_array_get(v->passed, i);

		pass_row(out, o, o);
		fprintf(out, "  %.3f s\n", report_number(o, "ms") / 1e3);
	}
	if (v->pass != NULL) {
		double done = report_number(v->progress, "pages_done");
		double all = done + report_number(v->progress, "pages_left");

		pass_row(out, v->pass, v->progress);
		bar(out, v->progress == NULL ? 0.0 : all > 0 ? done / all : 1.0);
	}
	last = v->pass != NULL ? v->pass : json_array_get(v->passed, n - 1);
	if (left_out(last) > 0) {
		fputs("  left out of the last one: ", out);
		put_left_out(out, last);
		fputc('\n', out);
	}
}

static void rates(const struct view *v, FILE *out)
{
	const json_t *p = v->progress;
	char guest[UNIT_TEXT], wire[UNIT_TEXT], dirty[UNIT_TEXT], sent[UNIT_TEXT];

	if (p == NULL)
		return;
	fprintf(out, "  guest memory %s/s, wire %s/s",
		unit_put_bytes(count(report_number(p, "pages_per_s") * PAGE), guest),
		unit_put_bytes(count(report_number(p, "wire_per_s")), wire));
	if (known(p, "ratio"))
		fprintf(out, ", ratio %.2f", report_number(p, "ratio"));
	else /* the target tells of no passes */
		fprintf(out, ", %.0f pages with content, %.0f zero, %.0f holes",
			report_number(p, "pages_data"), report_number(p, "pages_zero"),
			report_number(p, "pages_hole"));
	fprintf(out, "\n  %s on the wire",
		unit_put_bytes(count(report_number(p, "bytes_wire")), sent));
	if (known(p, "dirty_per_s"))
		fprintf(out, ", written by the guest %s/s",
			unit_put_bytes(count(report_number(p, "dirty_per_s") * PAGE), dirty));
	if (known(p, "stall_ms"))
		fprintf(out, ", stall %.0f ms", report_number(p, "stall_ms"));
	fputc('\n', out);
}

static void cores(const struct view *v, FILE *out)
{
	const json_t *list = json_object_get(v->progress, "cores"), *core, *share;
	const char *stage;
	size_t i;

	json_array_foreach((json_t *)list, i, core)
	{
		if (i == VIEW_CORES) {
			fprintf(out, "  and %zu more flows\n", json_array_size(list) - i);
			break;
		}
		fprintf(out, "  flow %.0f, CPU %.0f:", report_number(core, "flow"),
			report_number(core, "cpu"));
		json_object_foreach((json_t *)core, stage,
			share) if (json_is_real(share) && json_real_value(share) >= 0.01)
			fprintf(out, " %s %.0f %%", stage, 100 * json_real_value(share));
		fputc('\n', out);
	}
}

/* Copies text line by line, at most so many, each cut to width; returns how many. */
static unsigned put_cut(FILE *out, const char *text, unsigned width, unsigned most)
{
	unsigned lines = 0;

	for (const char *at = text; *at != '\0' && lines < most; lines++) {
		size_t len = strcspn(at, "\n");

		/* Texts come from elsewhere: they must not speak to the terminal. */
		for (size_t i = 0; i < len && i < width; i++)
			fputc((unsigned char)at[i] < ' ' || at[i] == 127 ? '?' : at[i], out);
		fputc('\n', out);
		at += len + (at[len] == '\n');
	}
	return lines;
}

unsigned view_print(const struct view *v, FILE *out, unsigned width, unsigned most)
{
	_cleanup_(free_ptr) char *text = NULL;
	size_t bytes;
	FILE *all = open_memstream(&text, &bytes);

	if (all == NULL)
		return 0;
	head(v, all);
	if (v->pass != NULL || json_array_size(v->passed) > 0)
		passes(v, all);
	rates(v, all);
	cores(v, all);
	return fclose(all) == 0 ? put_cut(out, text, width, most) : 0;
}

void view_passed_line(FILE *out, const json_t *o)
{
	fprintf(out, "pass %.0f (%s) ended: %.0f sent, %.0f zero, %.0f holes, ",
		report_number(o, "pass"), report_text(o, "kind"), report_number(o, "pages_data"),
		report_number(o, "pages_zero"), report_number(o, "pages_hole"));
	put_left_out(out, o);
	fprintf(out, " left out, %.3f s", report_number(o, "ms") / 1e3);
}
