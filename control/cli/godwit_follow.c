// SPDX-License-Identifier: BSD-3-Clause
// godwit while a session runs. On a terminal one line is rewritten in place; elsewhere each pass is
// a line, and progress is one every few seconds. Run by godwit's only thread. An interrupt leaves:
// the migration goes on in the daemon.

#include "godwit_follow.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "report.h"
#include "unit.h"

#define PLAIN_PROGRESS_NS (5 * NS_PER_S)

struct screen {
	const char *name;
	bool terminal;
	bool line_open; /* the cursor stands behind a line that may be rewritten */
	uint64_t printed_ns;
};

static void end_line(struct screen *s)
{
	if (s->line_open)
		putchar('\n');
	s->line_open = false;
}

static void on_pass(struct screen *s, const json_t *ev)
{
	end_line(s);
	printf("%s: pass %.0f (%s): %.0f pages to send, expected pause %.1f ms: %s\n", s->name,
		report_number(ev, "pass"), report_text(ev, "kind"),
		report_number(ev, "dirty_pages"), report_number(ev, "expected_pause_ms"),
		*report_text(ev, "reason") ? report_text(ev, "reason")
					   : report_text(ev, "decision"));
}

static void on_progress(struct screen *s, const json_t *ev)
{
	double left = report_number(ev, "pages_left"), done = report_number(ev, "pages_done");
	char left_text[UNIT_TEXT], wire[UNIT_TEXT];
	uint64_t now = clock_ns();

	if (!s->terminal && now - s->printed_ns < PLAIN_PROGRESS_NS)
		return;
	s->printed_ns = now;
	if (s->terminal)
		printf("\r\033[K");
	printf("%s: pass %.0f (%s) %3.0f %%, %s left, %.2f GiB/s, %s on the wire, %.1f s", s->name,
		report_number(ev, "pass"), report_text(ev, "kind"),
		left + done > 0 ? 100 * done / (left + done) : 100.0,
		unit_put_bytes((uint64_t)left * 4096, left_text), report_number(ev, "gib_per_s"),
		unit_put_bytes((uint64_t)report_number(ev, "bytes_wire"), wire),
		report_number(ev, "elapsed_ms") / 1e3);
	s->line_open = true;
	if (!s->terminal)
		end_line(s);
}

static void on_log(struct screen *s, const json_t *ev)
{
	const char *level = report_text(ev, "level");

	end_line(s);
	if (strcmp(level, "info") == 0)
		printf("%s: %s\n", s->name, report_text(ev, "text"));
	else if (strcmp(level, "debug") != 0)
		fprintf(stderr, "%s: %s: %s\n", s->name, level, report_text(ev, "text"));
}

static void on_end(struct screen *s, const json_t *ev)
{
	const char *result = report_text(ev, "result"), *error = report_text(ev, "error");

	end_line(s);
	if (result == NULL || error == NULL)
		return;
	if (error[0] != '\0')
		fprintf(stderr, "godwit: %s: %s: %s\n", s->name, result, error);
	if (strcmp(result, "undecided") == 0)
		fprintf(stderr, "godwit: %s: run `godwit resolve %s`: it tells what to check\n",
			s->name, s->name);
	printf("%s: %s\n", s->name, result);
	if (strcmp(result, "refused") != 0)
		report_print(stdout, json_object_get(ev, "report"));
}

static enum godwit_exit exit_of(const char *result)
{
	static const struct {
		const char *result;
		enum godwit_exit code;
	} codes[] = {
		{"done", EXIT_DONE},
		{"dry-run", EXIT_DONE},
		{"undecided", EXIT_UNDECIDED},
		{"refused", EXIT_REFUSED},
		{"cancelled", EXIT_CANCELLED},
	};

	for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (strcmp(codes[i].result, result) == 0)
			return codes[i].code;
	return EXIT_FAILED;
}

static void show(struct screen *s, const char *what, const json_t *ev)
{
	if (strcmp(what, "state") == 0) {
		end_line(s);
		printf("%s: %s (%s)\n", s->name, report_text(ev, "state"),
			report_text(ev, "stage"));
	} else if (strcmp(what, "pass") == 0) {
		on_pass(s, ev);
	} else if (strcmp(what, "progress") == 0) {
		on_progress(s, ev);
	} else if (strcmp(what, "log") == 0) {
		on_log(s, ev);
	} else if (strcmp(what, "end") == 0) {
		on_end(s, ev);
	}
	fflush(stdout);
}

static void on_interrupt(int sig)
{
	static const char text[] =
		"\ngodwit: left; the migration goes on (see godwit status, watch, cancel)\n";
	ssize_t n = write(STDERR_FILENO, text, sizeof(text) - 1);

	(void)n;
	_exit(128 + sig);
}

enum godwit_exit godwit_follow(struct godwit_client *c, const char *name, bool json)
{
	const struct sigaction leave = {.sa_handler = on_interrupt};
	struct screen s = {.name = name, .terminal = !json && isatty(STDOUT_FILENO)};
	enum godwit_exit code = EXIT_FAILED;
	bool end = false;
	struct err e;

	sigaction(SIGINT, &leave, NULL);
	s.printed_ns = clock_ns();
	while (!end) {
		json_t *ev = godwit_client_next(c, &e);
		const char *what = report_text(ev, "event");

		if (ev == NULL) {
			end_line(&s);
			fprintf(stderr, "godwit: %s: %s\n", name, e.text);
			return EXIT_NO_DAEMON;
		}
		end = strcmp(what, "end") == 0;
		if (end)
			code = exit_of(report_text(ev, "result"));
		if (json) {
			json_dumpf(ev, stdout, JSON_COMPACT);
			putchar('\n');
			fflush(stdout);
		} else {
			show(&s, what, ev);
		}
		json_decref(ev);
	}
	return code;
}
