// SPDX-License-Identifier: BSD-3-Clause
// godwit while a session runs. On a terminal a picture (view.h) is rewritten in place; elsewhere
// each pass is two lines, and progress is one every few seconds. Run by godwit's only thread. An
// interrupt leaves: the migration goes on in the daemon.

#include "godwit_follow.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "clock.h"
#include "record.h"
#include "report.h"
#include "unit.h"
#include "view.h"

#define PLAIN_PROGRESS_NS (5 * NS_PER_S)
#define COLUMNS_USUAL     80u
#define LINES_USUAL       24u

struct screen {
	const char *name;
	bool terminal;
	unsigned drawn; /* lines of the picture, with the cursor behind the last; 0: none */
	uint64_t printed_ns;
	struct view view;
};

/* What of the terminal may be drawn on. */
static void measure(unsigned *columns, unsigned *lines)
{
	struct winsize size;

	*columns = COLUMNS_USUAL;
	*lines = LINES_USUAL;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
		*columns = size.ws_col;
		*lines = size.ws_row;
	}
	/* The last column and line are left free: a terminal may wrap or scroll there. */
	*columns -= *columns > 1;
	*lines -= *lines > 1;
}

static void wipe(struct screen *s)
{
	if (s->drawn > 0)
		printf("\033[%uA\r\033[J", s->drawn);
	s->drawn = 0;
}

static void draw(struct screen *s)
{
	unsigned columns, lines;

	measure(&columns, &lines);
	wipe(s);
	s->drawn = view_print(&s->view, stdout, columns, lines);
}

static void on_pass(struct screen *s, const json_t *ev)
{
	printf("%s: pass %.0f (%s): %.0f pages to send, expected pause %.1f ms: %s\n", s->name,
		report_number(ev, "pass"), report_text(ev, "kind"),
		report_number(ev, "dirty_pages"), report_number(ev, "expected_pause_ms"),
		*report_text(ev, "reason") ? report_text(ev, "reason")
					   : report_text(ev, "decision"));
}

static void on_passed(struct screen *s, const json_t *ev)
{
	printf("%s: ", s->name);
	view_passed_line(stdout, ev);
	putchar('\n');
}

static void on_progress(struct screen *s, const json_t *ev)
{
	double left = report_number(ev, "pages_left"), done = report_number(ev, "pages_done");
	char left_text[UNIT_TEXT], wire[UNIT_TEXT];
	uint64_t now = clock_ns();

	if (now - s->printed_ns < PLAIN_PROGRESS_NS)
		return;
	s->printed_ns = now;
	printf("%s: pass %.0f (%s) %3.0f %%, %s left, %.2f GiB/s, %s on the wire, %.1f s", s->name,
		report_number(ev, "pass"), report_text(ev, "kind"),
		left + done > 0 ? 100 * done / (left + done) : 100.0,
		unit_put_bytes((uint64_t)left * 4096, left_text), report_number(ev, "gib_per_s"),
		unit_put_bytes((uint64_t)report_number(ev, "bytes_wire"), wire),
		report_number(ev, "elapsed_ms") / 1e3);
	view_put_forecast(stdout, ev);
	putchar('\n');
}

static void on_throttle(struct screen *s, const json_t *ev)
{
	wipe(s);
	printf("%s: the guest's vCPUs have %.0f %% of their time: %s\n", s->name,
		report_number(ev, "percent"), report_text(ev, "reason"));
}

static void on_log(struct screen *s, const json_t *ev)
{
	const char *level = report_text(ev, "level");

	wipe(s);
	if (strcmp(level, "info") == 0)
		printf("%s: %s\n", s->name, report_text(ev, "text"));
	else if (strcmp(level, "debug") != 0)
		fprintf(stderr, "%s: %s: %s\n", s->name, level, report_text(ev, "text"));
}

static void on_end(struct screen *s, const json_t *ev)
{
	const char *result = report_text(ev, "result"), *error = report_text(ev, "error");

	if (s->terminal && s->view.state != NULL)
		draw(s); /* the last picture stays */
	s->drawn = 0;
	if (error[0] != '\0')
		fprintf(stderr, "godwit: %s: %s: %s\n", s->name, result, error);
	printf("%s: %s\n", s->name, result);
	if (strcmp(result, "undecided") == 0)
		fprintf(stderr, "godwit: %s: run `godwit resolve %s`: it tells what to check\n",
			s->name, s->name);
	if (strcmp(result, "dry-run") == 0)
		printf("%s: nothing stands against it; the guest was not touched\n", s->name);
	else if (strcmp(result, "refused") != 0)
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

static void show_plain(struct screen *s, const char *what, const json_t *ev)
{
	if (strcmp(what, "state") == 0)
		printf("%s: %s (%s)\n", s->name, report_text(ev, "state"),
			report_text(ev, "stage"));
	else if (strcmp(what, "pass") == 0)
		on_pass(s, ev);
	else if (strcmp(what, "passed") == 0)
		on_passed(s, ev);
	else if (strcmp(what, "progress") == 0)
		on_progress(s, ev);
}

/* Each pass tells the state anew. */
static bool is_old(const struct screen *s, const char *what, const json_t *ev)
{
	const json_t *old = s->view.state;

	return strcmp(what, "state") == 0 &&
	       strcmp(report_text(ev, "state"), report_text(old, "state")) == 0 &&
	       strcmp(report_text(ev, "stage"), report_text(old, "stage")) == 0;
}

static void show(struct screen *s, const char *what, const json_t *ev)
{
	bool old = is_old(s, what, ev), changed = view_take(&s->view, ev);

	if (!s->terminal && !old)
		show_plain(s, what, ev);
	if (strcmp(what, "log") == 0)
		on_log(s, ev);
	else if (strcmp(what, "throttle") == 0)
		on_throttle(s, ev);
	else if (strcmp(what, "end") == 0)
		on_end(s, ev);
	else if (s->terminal && (changed || s->drawn == 0))
		draw(s);
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

enum godwit_exit godwit_follow(
	struct godwit_client *c, const char *name, const struct godwit_follow_how *how)
{
	const struct sigaction leave = {.sa_handler = on_interrupt};
	struct screen s = {.name = name, .terminal = !how->json && isatty(STDOUT_FILENO)};
	enum godwit_exit code = EXIT_FAILED;
	bool end = false;
	struct err e;

	sigaction(SIGINT, &leave, NULL);
	s.printed_ns = clock_ns();
	view_init(&s.view, name);
	view_seed(&s.view, how->session);
	if (!how->json && !s.terminal && s.view.state != NULL)
		show_plain(&s, "state", s.view.state);
	while (!end) {
		json_t *ev = godwit_client_next(c, &e);
		const char *what = report_text(ev, "event");

		if (ev == NULL) {
			fprintf(stderr, "godwit: %s: %s\n", name, e.text);
			code = EXIT_NO_DAEMON;
			break;
		}
		end = strcmp(what, "end") == 0;
		if (end)
			code = exit_of(report_text(ev, "result"));
		record_event(how->record, ev);
		if (how->json) {
			json_dumpf(ev, stdout, JSON_COMPACT);
			putchar('\n');
			fflush(stdout);
		} else {
			show(&s, what, ev);
		}
		json_decref(ev);
	}
	view_fini(&s.view);
	return code;
}
