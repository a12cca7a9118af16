// SPDX-License-Identifier: BSD-3-Clause
// What godwit prints for people. Pure but for the printing; trusts nothing about the objects.

#include "report.h"

#include <string.h>

#include <stdbool.h>
#include <stdint.h>

#include "unit.h"

const char *report_text(const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text != NULL ? text : "";
}

double report_number(const json_t *o, const char *key)
{
	return json_number_value(json_object_get(o, key));
}

static uint64_t count(const json_t *o, const char *key)
{
	double v = report_number(o, key);

	return v > 0 ? (uint64_t)v : 0;
}

static bool has(const json_t *o, const char *key)
{
	const json_t *j = json_object_get(o, key);

	return j != NULL && !json_is_null(j);
}

static void line(FILE *out, const char *label)
{
	fprintf(out, "  %-12s ", label);
}

static void print_cores(FILE *out, const json_t *cores)
{
	for (size_t i = 0; i < json_array_size(cores); i++)
		fprintf(out, "%s%d", i ? "," : "",
			(int)json_integer_value(json_array_get(cores, i)));
}

static void print_port(FILE *out, const json_t *p)
{
	line(out, "port");
	fprintf(out, "%s, %s\n", report_text(p, "name"), report_text(p, "about"));
	line(out, "packets");
	fprintf(out, "%.0f out, %.0f in", report_number(p, "packets_out"),
		report_number(p, "packets_in"));
	if (count(p, "path_mtu") > 0) /* only the source knows */
		fprintf(out, ", %.0f lost, path MTU %.0f, round trip %.0f us%s",
			report_number(p, "packets_lost"), report_number(p, "path_mtu"),
			report_number(p, "rtt_us"),
			json_is_true(json_object_get(p, "zero_copy")) ? ", zero copy" : "");
	fputc('\n', out);
	if (report_text(p, "copies")[0] != '\0') {
		line(out, "copied");
		fprintf(out, "%s\n", report_text(p, "copies"));
	}
}

static void print_stall(FILE *out, const json_t *s)
{
	line(out, "stall");
	fprintf(out,
		"%.1f ms of %.0f vCPUs in %.1f s before the pause: kernel %.1f, waiting for a CPU "
		"%.1f\n",
		report_number(s, "kernel_ms") + report_number(s, "wait_ms"),
		report_number(s, "vcpus"), report_number(s, "over_ms") / 1e3,
		report_number(s, "kernel_ms"), report_number(s, "wait_ms"));
}

/* auto: what the pages went by. */
static void print_chosen(FILE *out, const json_t *r)
{
	static const char *const names[] = {"lz4", "deflate", "zstd"};
	const json_t *c = json_object_get(r, "counters");
	double all = report_number(c, "pages_data"), left = 100;

	for (unsigned i = 0; i < 3 && all > 0; i++) {
		char field[32];
		double share;

		snprintf(field, sizeof(field), "pages_%s", names[i]);
		share = 100 * report_number(c, field) / all;
		fprintf(out, "%s%s %.0f %%", i > 0 ? ", " : " (", names[i], share);
		left -= share;
	}
	if (all > 0)
		fprintf(out, ", raw %.0f %%)", left);
}

static void print_what_on(FILE *out, const json_t *r)
{
	if (has(r, "hypervisor")) {
		line(out, "guest");
		fprintf(out, "%s, writes seen by %s%s%s%s, memory on %s\n",
			report_text(r, "hypervisor"), report_text(r, "tracker"),
			has(r, "tracker_mode") ? " (" : "", report_text(r, "tracker_mode"),
			has(r, "tracker_mode") ? ")" : "", report_text(r, "memory"));
	}
	if (has(r, "cores")) {
		line(out, "data path");
		if (has(r, "link"))
			fprintf(out, "link %s, ", report_text(r, "link"));
		if (has(r, "codec")) /* only the source knows */
			fprintf(out, "codec %s", report_text(r, "codec"));
		if (has(r, "codec") && strcmp(report_text(r, "codec"), "auto") == 0)
			print_chosen(out, r);
		if (has(r, "codec"))
			fputs(", ", out);
		if (has(r, "seal"))
			fprintf(out, "seal %s, ", report_text(r, "seal"));
		fprintf(out, "CPU ");
		print_cores(out, json_object_get(r, "cores"));
		fputc('\n', out);
	}
	if (has(r, "port"))
		print_port(out, json_object_get(r, "port"));
}

/* What was kept out, by reason. */
static void print_left_out(FILE *out, const json_t *r)
{
	line(out, "left out");
	fprintf(out, "%.0f holes, %.0f in the balloon, %.0f free\n",
		report_number(r, "pages_skipped"), report_number(r, "pages_balloon"),
		report_number(r, "pages_free"));
}

void report_print(FILE *out, const json_t *r)
{
	char guest[UNIT_TEXT], wire[UNIT_TEXT];

	if (!json_is_object(r))
		return;
	line(out, "total time");
	fprintf(out, "%.3f s, %.0f passes\n", report_number(r, "total_ms") / 1e3,
		report_number(r, "passes"));
	if (json_is_true(json_object_get(r, "insecure"))) {
		line(out, "insecure");
		fprintf(out, "plain text between the daemons, and nobody proved who he is\n");
	}
	/* It ended before anything was copied. */
	if (report_number(r, "passes") == 0 && count(r, "bytes_wire") == 0)
		return;
	if (has(r, "pause_ms")) {
		line(out, "pause");
		fprintf(out, "%.1f ms\n", report_number(r, "pause_ms"));
	}
	if (has(r, "throttle_percent")) {
		line(out, "throttle");
		fprintf(out, "vCPUs had %.0f %% of their time at the least\n",
			report_number(r, "throttle_percent"));
	}
	if (has(r, "stall"))
		print_stall(out, json_object_get(r, "stall"));
	line(out, "pages");
	fprintf(out, "%.0f sent, %.0f zero, %.0f made holes", report_number(r, "pages_data"),
		report_number(r, "pages_zero"), report_number(r, "pages_hole"));
	if (count(r, "pages_torn") > 0)
		fprintf(out, ", %.0f torn and sent again", report_number(r, "pages_torn"));
	fputc('\n', out);
	if (count(r, "pages_skipped") + count(r, "pages_balloon") + count(r, "pages_free") > 0)
		print_left_out(out, r);
	line(out, "wire");
	fprintf(out, "%s for %s of guest memory, ratio %.2f\n",
		unit_put_bytes(count(r, "bytes_wire"), wire),
		unit_put_bytes(count(r, "bytes_guest"), guest), report_number(r, "ratio"));
	if (report_number(r, "gib_per_s") > 0) { /* only the source knows */
		line(out, "throughput");
		fprintf(out, "%.2f GiB/s of guest memory\n", report_number(r, "gib_per_s"));
	}
	print_what_on(out, r);
	if (count(r, "verified_pages") > 0) {
		line(out, "verified");
		fprintf(out, "%.0f pages identical (%.1f ms)\n", report_number(r, "verified_pages"),
			report_number(r, "verify_ms"));
	}
}

void report_session(FILE *out, const json_t *s)
{
	fprintf(out, "%s: %s, %s", report_text(s, "name"), report_text(s, "side"),
		report_text(s, "state"));
	if (has(s, "result"))
		fprintf(out, ", %s", report_text(s, "result"));
	else
		fprintf(out, ", stage %s, pass %.0f", report_text(s, "stage"),
			report_number(s, "pass"));
	fputc('\n', out);
	if (has(s, "to"))
		fprintf(out, "  %-12s %s\n", "to", report_text(s, "to"));
	if (has(s, "error"))
		fprintf(out, "  %-12s %s\n", "error", report_text(s, "error"));
	report_print(out, json_object_get(s, "report"));
}

void report_list(FILE *out, const json_t *sessions)
{
	if (json_array_size(sessions) == 0) {
		fprintf(out, "no migrations\n");
		return;
	}
	fprintf(out, "%-20s %-7s %-11s %-10s %4s  %s\n", "NAME", "SIDE", "STATE", "RESULT", "PASS",
		"TO");
	for (size_t i = 0; i < json_array_size(sessions); i++) {
		const json_t *s = json_array_get(sessions, i);
		const char *result = report_text(s, "result");

		fprintf(out, "%-20s %-7s %-11s %-10s %4.0f  %s\n", report_text(s, "name"),
			report_text(s, "side"), report_text(s, "state"), *result ? result : "-",
			report_number(s, "pass"), report_text(s, "to"));
	}
}

void report_daemon(FILE *out, const json_t *d)
{
	const json_t *cores = json_object_get(d, "cores"), *ports = json_object_get(d, "ports");

	fprintf(out, "godwitd %s, pid %.0f, on %s\n", report_text(d, "version"),
		report_number(d, "pid"), report_text(d, "listen"));
	if (has(d, "memory"))
		fprintf(out, "  %-12s %s\n", "memory", report_text(d, "memory"));
	if (json_is_true(json_object_get(d, "insecure")))
		fprintf(out, "  %-12s insecure: plain text with others that are so too\n", "TLS");
	else if (has(d, "certificate"))
		fprintf(out, "  %-12s %s\n", "TLS", report_text(d, "certificate"));
	for (size_t i = 0; i < json_array_size(ports); i++) {
		const json_t *p = json_array_get(ports, i);

		fprintf(out, "  port %-7s %s%s%s: %s\n", report_text(p, "name"),
			report_text(p, "ipv4"), has(p, "ipv4") && has(p, "ipv6") ? ", " : "",
			report_text(p, "ipv6"), report_text(p, "about"));
	}
	for (size_t i = 0; i < json_array_size(cores); i++) {
		const json_t *c = json_array_get(cores, i);

		fprintf(out, "  core %-7.0f CPU %.0f, node %.0f, busy %.3f s, idle %.3f s\n",
			report_number(c, "lcore"), report_number(c, "cpu"),
			report_number(c, "node"), report_number(c, "busy_s"),
			report_number(c, "idle_s"));
	}
}
