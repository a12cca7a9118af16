// SPDX-License-Identifier: BSD-3-Clause
// `godwit doctor`: the table of checks, and how their rows are shown. Run by godwit's only thread.

#include "doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "report.h"

#define ROW_TEXT 400

static const struct {
	const char *group;
	void (*run)(struct doctor *d);
} doctor_table[] = {
	{"daemon", doctor_daemon},
	{"cpu", doctor_cores},
	{"memory", doctor_memory},
	{"network", doctor_net},
	{"rdma", doctor_rdma},
	{"kernel", doctor_kernel},
	{"guest", doctor_qemu},
};

static const char *const verdict_name[DOCTOR_VERDICTS] = {"note", "good", "advice", "problem"};
static const char *const verdict_mark[DOCTOR_VERDICTS] = {" ", "+", "!", "X"};

void doctor_row(struct doctor *d, enum doctor_verdict v, const char *subject, const char *cure,
	const char *fmt, ...)
{
	char text[ROW_TEXT];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	d->count[v]++;
	json_array_append_new(
		d->rows, json_pack("{s:s, s:s, s:s, s:s, s:s?}", "group", d->group, "subject",
				 subject, "verdict", verdict_name[v], "text", text, "cure", cure));
}

void doctor_run(struct doctor *d)
{
	d->rows = json_array();
	for (size_t i = 0; i < sizeof(doctor_table) / sizeof(doctor_table[0]); i++) {
		d->group = doctor_table[i].group;
		doctor_table[i].run(d);
	}
}

static void print_row(const json_t *row, const char *last_group)
{
	const char *verdict = report_text(row, "verdict"), *cure = report_text(row, "cure");
	const char *mark = "";

	for (unsigned v = 0; v < DOCTOR_VERDICTS; v++)
		if (strcmp(verdict_name[v], verdict) == 0)
			mark = verdict_mark[v];
	if (strcmp(last_group, report_text(row, "group")) != 0)
		printf("%s%s\n", last_group[0] ? "\n" : "", report_text(row, "group"));
	printf("  %s %-14s %s\n", mark, report_text(row, "subject"), report_text(row, "text"));
	if (cure[0] != '\0')
		printf("    %-14s -> %s\n", "", cure);
}

void doctor_print(const struct doctor *d, bool json)
{
	const char *group = "";
	json_t *all, *row;
	size_t i;

	if (json) {
		all = json_pack("{s:O, s:i, s:i, s:O?}", "rows", d->rows, "problems",
			(int)d->count[DOCTOR_PROBLEM], "advice", (int)d->count[DOCTOR_ADVICE],
			"daemon", d->daemon);
		json_dumpf(all, stdout, JSON_COMPACT);
		putchar('\n');
		json_decref(all);
		return;
	}
	json_array_foreach(d->rows, i, row)
	{
		print_row(row, group);
		group = report_text(row, "group");
	}
	printf("\n%u problems (X), %u pieces of advice (!)\n", d->count[DOCTOR_PROBLEM],
		d->count[DOCTOR_ADVICE]);
}
