// SPDX-License-Identifier: BSD-3-Clause
// What gnuplot is told: data first, then five plots one below the other; of a target two. Run by
// godwit's only thread. Pure but for the printing. Words are single-quoted, and nothing in them can
// end that.

#include "plot.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "report.h"

#define GIB (1024.0 * 1024 * 1024)

static const char *const parts[] = {
	"claim", "scan", "encode", "seal", "send", "recv", "decode", "place", "idle"};
#define PARTS (sizeof(parts) / sizeof(parts[0]))

/* gnuplot's quoting has exceptions; so nothing that quotes gets in. */
static void quote(FILE *out, const char *text)
{
	fputc('\'', out);
	for (; *text != '\0'; text++)
		fputc(*text == '\'' || *text == '`'  ? '"'
			: (unsigned char)*text < ' ' ? ' '
						     : *text,
			out);
	fputc('\'', out);
}

static double sane(double v)
{
	return isfinite(v) && fabs(v) < 1e15 ? v : 0;
}

static double number(const json_t *o, const char *key)
{
	return sane(report_number(o, key));
}

/* A number, or what gnuplot leaves out. */
static void put(FILE *out, const json_t *o, const char *key, double scale)
{
	if (json_is_number(json_object_get(o, key)))
		fprintf(out, " %.9g", number(o, key) * scale);
	else
		fputs(" NaN", out);
}

static void data_rates(const struct plot_record *r, FILE *out)
{
	const json_t *o;
	size_t i;

	/* At the beginning nothing moves; and gnuplot refuses to draw what has no point at all. */
	fputs("$rates << EOD\n0 0 0 NaN 0 0\n", out);
	json_array_foreach(r->progress, i, o)
	{
		fprintf(out, "%.6f", number(o, "t_ms") / 1e3);
		put(out, o, "pages_per_s", 4096 / GIB);
		put(out, o, "wire_per_s", 1 / GIB);
		put(out, o, "dirty_per_s", 4096 / GIB);
		put(out, o, "ratio", 1);
		put(out, o, "stall_ms", 1);
		fputc('\n', out);
	}
	fputs("EOD\n", out);
}

static void data_passes(const struct plot_record *r, FILE *out)
{
	const json_t *o;
	size_t i;

	fputs("$passes << EOD\n", out);
	json_array_foreach(r->passed, i, o) fprintf(out, "%.0f %.0f %.0f %.0f %.0f %.6f\n",
		number(o, "pass"), number(o, "pages_data"), number(o, "pages_zero"),
		number(o, "pages_hole"),
		number(o, "skipped_pages") + number(o, "balloon_pages") + number(o, "free_pages"),
		number(o, "ms") / 1e3);
	if (json_array_size(r->passed) == 0)
		fputs("0 0 0 0 0 0\n", out);
	fputs("EOD\n", out);
}

/* The mean share of each part for each flow: events are at an even pace. */
static void data_cores(const struct plot_record *r, FILE *out)
{
	static double sum[PLOT_FLOWS][PARTS];
	unsigned cpu[PLOT_FLOWS] = {0}, flows = 0;
	size_t n = json_array_size(r->progress);

	memset(sum, 0, sizeof(sum));
	for (size_t i = 0; i < n; i++) {
		const json_t *cores = json_object_get(json_array_get(r->progress, i), "cores");

		for (size_t c = 0; c < json_array_size(cores) && c < PLOT_FLOWS; c++) {
			const json_t *core = json_array_get(cores, c);

			flows = c + 1 > flows ? (unsigned)c + 1 : flows;
			cpu[c] = (unsigned)json_integer_value(json_object_get(core, "cpu"));
			for (unsigned p = 0; p < PARTS; p++)
				sum[c][p] += number(core, parts[p]);
		}
	}
	fputs("$cores << EOD\n", out);
	for (unsigned c = 0; c < flows; c++) {
		fprintf(out, "\"flow %u, CPU %u\"", c, cpu[c]);
		for (unsigned p = 0; p < PARTS; p++)
			fprintf(out, " %.6f", 100 * sum[c][p] / (double)n);
		fputc('\n', out);
	}
	if (flows == 0)
		fputs("\"none\" 0 0 0 0 0 0 0 0 0\n", out);
	fputs("EOD\n", out);
}

/* The guest runs again once the commit was answered; what is written down and ended after that
 * takes its time. */
static double pause_ended(const struct plot_record *r)
{
	const json_t *o;
	size_t i;

	json_array_foreach(r->stages, i, o)
	{
		if (strcmp(report_text(o, "stage"), "commit") == 0)
			return number(o, "t_ms") / 1e3;
	}
	return number(r->end, "t_ms") / 1e3;
}

/* When each pass began, as lines across the plots over time; and the pause as a band. */
static void marks(const struct plot_record *r, FILE *out)
{
	double pause = number(json_object_get(r->end, "report"), "pause_ms") / 1e3;
	double end = number(r->end, "t_ms") / 1e3, last = -1, paused = pause_ended(r);
	const json_t *o;
	size_t i, n = json_array_size(r->pass);

	json_array_foreach(r->pass, i, o)
	{
		double at = number(o, "t_ms") / 1e3;

		/* The first and last ones; more would hide what is behind them. */
		if (i < 40 || i + 10 > n)
			fprintf(out,
				"set arrow from first %.6f, graph 0 to first %.6f, graph 1 nohead "
				"dashtype 3 linecolor '#999999'\n",
				at, at);
		if (last < 0 || at - last > end / 40)
			fprintf(out,
				"set label '%s%.0f' at first %.6f, graph 0.95 left offset 0.3,0 "
				"textcolor '#777777'\n",
				last < 0 ? "pass " : "", number(o, "pass"), at);
		last = at;
	}
	if (pause > 0)
		fprintf(out,
			"set object rectangle from first %.6f, graph 0 to first %.6f, graph 1 "
			"fillcolor '#ffd0d0' fillstyle solid noborder behind\n"
			"set label 1000 'pause %.1f ms' at first %.6f, graph 0.8 right offset "
			"-0.5,0 textcolor '#c00000'\n",
			paused - pause, paused, pause * 1e3, paused - pause);
}

/* A target tells of no passes, and knows neither ratio nor stall. */
static bool is_target(const struct plot_record *r)
{
	return strcmp(report_text(json_array_get(r->progress, 0), "event"), "placing") == 0;
}

/* What of the report is known: a target counts no passes, and not each guest's vCPUs are. */
static void head(const struct plot_record *r, FILE *out)
{
	static const struct {
		const char *key, *format;
		double scale;
	} figures[] = {
		{"total_ms", ", %.3f s", 1e-3},
		{"passes", ", %.0f passes", 1},
		{"pause_ms", ", pause %.1f ms", 1},
		{"stall_ms", ", stall %.1f ms", 1},
		{"ratio", ", ratio %.2f", 1},
		{"gib_per_s", ", %.2f GiB/s", 1},
	};
	const json_t *report = json_object_get(r->end, "report");
	char text[400];
	size_t len;

	len = (size_t)snprintf(text, sizeof(text), "%.80s, %.40s: %.40s",
		report_text(r->head, "name"), report_text(r->head, "at"),
		r->end != NULL ? report_text(r->end, "result") : "not ended");
	for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
		if (number(report, figures[i].key) != 0 && len < sizeof(text))
			len += (size_t)snprintf(text + len, sizeof(text) - len, figures[i].format,
				number(report, figures[i].key) * figures[i].scale);
	fprintf(out, "set multiplot layout %u,1 title ", is_target(r) ? 2u : 5u);
	quote(out, text);
	fputs(" noenhanced\n", out);
}

/* What the guest writes is known once a pass was looked at; gnuplot grumbles at a line without a
 * point. */
static bool has_writes(const struct plot_record *r)
{
	const json_t *o;
	size_t i;

	json_array_foreach(r->progress, i, o)
	{
		if (json_is_number(json_object_get(o, "dirty_per_s")))
			return true;
	}
	return false;
}

#define HISTOGRAM                                                                                  \
	"set style data histograms\nset style histogram rowstacked\nset boxwidth 0.8\n"            \
	"set style fill solid 0.8 noborder\n"

static void plots_of_source(FILE *out)
{
	fputs("\nset ylabel 'ratio'\n"
	      "plot $rates using 1:5 with fsteps linewidth 2 title 'ratio'\n"
	      "set ylabel 'ms of vCPUs'\n"
	      "set xlabel 'seconds'\n"
	      "plot $rates using 1:6 with lines linewidth 2 title 'stall'\n"
	      "unset arrow\nunset label\nunset object\nset xrange [*:*]\n" HISTOGRAM
	      "set ylabel 'pages'\nset xlabel 'pass'\nset xtics auto\n"
	      "plot $passes using 2:xtic(1) title 'sent', '' using 3 title 'zero', "
	      "'' using 4 title 'holes', '' using 5 title 'left out'",
		out);
}

static void plots(const struct plot_record *r, FILE *out)
{
	if (is_target(r))
		fputs("set xlabel 'seconds'\n", out);
	fputs("set ylabel 'GiB/s'\n"
	      "plot $rates using 1:2 with fsteps linewidth 2 title 'guest memory moved', "
	      "'' using 1:3 with fsteps linewidth 2 title 'wire'",
		out);
	if (has_writes(r))
		fputs(", '' using 1:4 with fsteps linewidth 2 title 'written by the guest'", out);
	if (number(json_object_get(r->end, "report"), "pause_ms") > 0)
		fputs("\nunset label 1000", out); /* once is enough */
	if (!is_target(r))
		plots_of_source(out);
	fputs("\nunset arrow\nunset label\nunset object\nset xrange [*:*]\n" HISTOGRAM
	      "set ylabel '% of time copying'\nunset xlabel\nset yrange [0:100]\n"
	      "plot $cores using 2:xtic(1) title 'claim'",
		out);
	for (unsigned p = 1; p < PARTS; p++)
		fprintf(out, ", '' using %u title '%s'%s", p + 2, parts[p],
			p + 1 == PARTS ? " linecolor '#cccccc'" : "");
	fputs("\nunset multiplot\n", out);
}

void plot_script(const struct plot_record *r, FILE *out, const char *terminal)
{
	double end = number(r->end, "t_ms") / 1e3;

	data_rates(r, out);
	data_passes(r, out);
	data_cores(r, out);
	fprintf(out, "set terminal %s size 1200,%u background '#ffffff' noenhanced\n",
		strcmp(terminal, "png") == 0 ? "pngcairo" : "svg", is_target(r) ? 700u : 1500u);
	fputs("set grid ytics\nset key outside right top\nset yrange [0:*]\n"
	      "set lmargin 12\nset rmargin 30\nset datafile missing 'NaN'\n",
		out);
	if (end > 0)
		fprintf(out, "set xrange [0:%.6f]\n", end);
	head(r, out);
	marks(r, out);
	plots(r, out);
}
