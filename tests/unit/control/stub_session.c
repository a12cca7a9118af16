// SPDX-License-Identifier: BSD-3-Clause
// A stand-in for control/session/session.c: see stub_session.h. Run by the control loop of a test.

#include "stub_session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "journal.h"

struct session_watch {
	LIST_ENTRY(session_watch) next;
	struct session *s;
	void (*fn)(void *arg, json_t *event);
	void *arg;
	struct event *late;
};

struct session {
	LIST_ENTRY(session) next;
	char name[SESSION_NAME];
	bool source, ended;
	int step;
	const char *result;
	struct event *tick;
	struct event_base *base;
	LIST_HEAD(, session_watch) watches;
};

static LIST_HEAD(, session) sessions = LIST_HEAD_INITIALIZER(sessions);
struct migrate_options stub_migrate;
struct receive_options stub_receive;
uint64_t stub_bandwidth, stub_downtime;
char stub_keep[16];
unsigned stub_resolved;
struct event_base *stub_base;

static void emit(struct session *s, json_t *event)
{
	struct session_watch *w, *next;

	for (w = LIST_FIRST(&s->watches); w != NULL; w = next) {
		next = LIST_NEXT(w, next);
		w->fn(w->arg, event);
	}
	json_decref(event);
}

static json_t *end_event(const struct session *s)
{
	bool good = strcmp(s->result, "done") == 0 || strcmp(s->result, "dry-run") == 0;
	json_t *passes = json_array(), *report;

	for (int i = 0; strcmp(s->name, "many") == 0 && i < 20000; i++)
		json_array_append_new(passes, json_pack("{s:i, s:s}", "pass", i, "kind", "live"));
	report = json_pack(
		"{s:f, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:f, s:f, s:f, s:s, s:s, s:s, "
		"s:[i], s:i, s:f, s:o}",
		"total_ms", 1234.5, "passes", 3, "pages_data", 1000, "pages_zero", 500,
		"pages_hole", 20, "pages_skipped", 0, "pages_torn", 1, "bytes_guest",
		(json_int_t)6225920, "bytes_wire", (json_int_t)4194304, "ratio", 1.48, "pause_ms",
		21.5, "gib_per_s", 3.25, "hypervisor", "kvm", "tracker", "kvm-log", "memory",
		"4 KiB pages", "cores", 1, "verified_pages", 1520, "verify_ms", 7.5,
		"passes_detail", passes);
	return json_pack("{s:s, s:s, s:s?, s:o}", "event", "end", "result", s->result, "error",
		good ? NULL : "the stub was told to", "report", report);
}

static void finish(struct session *s, const char *result)
{
	s->result = result;
	s->ended = true;
	event_del(s->tick);
	emit(s, end_event(s));
}

static const char *result_of(const struct session *s)
{
	static const char *const others[] = {"refused", "undecided", "cancelled"};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (strcmp(s->name, others[i]) == 0)
			return others[i];
	if (strcmp(s->name, "fails") == 0)
		return "failed";
	return stub_migrate.dry_run && s->source ? "dry-run" : "done";
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;

	(void)fd;
	(void)what;
	switch (s->step++) {
	case 0:
		emit(s, json_pack("{s:s, s:s, s:s}", "event", "state", "state", "copying", "stage",
				"copy"));
		break;
	case 1:
		emit(s, json_pack("{s:s, s:i, s:s, s:i, s:s, s:s, s:f}", "event", "pass", "pass", 0,
				"kind", "live", "dirty_pages", 1520, "decision", "go on", "reason",
				"first pass", "expected_pause_ms", 50.0));
		break;
	case 2:
		emit(s, json_pack("{s:s, s:i, s:s, s:i, s:i, s:i, s:f, s:f}", "event", "progress",
				"pass", 0, "kind", "live", "pages_left", 760, "pages_done", 760,
				"bytes_wire", 100000, "gib_per_s", 3.25, "elapsed_ms", 200.0));
		break;
	case 3:
		emit(s, json_pack("{s:s, s:i, s:s, s:i, s:i, s:i, s:i, s:f}", "event", "passed",
				"pass", 0, "kind", "live", "dirty_pages", 1520, "pages_data", 1000,
				"pages_zero", 500, "pages_hole", 20, "ms", 210.0));
		break;
	case 4:
		emit(s, json_pack("{s:s, s:s, s:s}", "event", "log", "level", "warning", "text",
				"this is a stub"));
		break;
	default:
		if (strcmp(s->name, "silent") != 0)
			finish(s, result_of(s));
	}
}

static int make(
	struct session_host *h, const char *name, bool source, struct session **out, struct err *e)
{
	const struct timeval every = {.tv_usec = 5000};
	struct session *s = session_find(name);

	if (s != NULL && !s->ended)
		return err_set(e, EEXIST, "a migration '%s' is under way", name);
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return err_set(e, ENOMEM, "no memory");
	snprintf(s->name, sizeof(s->name), "%s", name);
	s->source = source;
	s->base = h->base;
	s->result = "none";
	LIST_INIT(&s->watches);
	s->tick = event_new(h->base, -1, EV_PERSIST, on_tick, s);
	event_add(s->tick, &every);
	LIST_INSERT_HEAD(&sessions, s, next);
	*out = s;
	return 0;
}

int session_migrate(
	struct session_host *h, const struct migrate_options *o, struct session **s, struct err *e)
{
	stub_migrate = *o;
	return make(h, o->name, true, s, e);
}

int session_receive(
	struct session_host *h, const struct receive_options *o, struct session **s, struct err *e)
{
	stub_receive = *o;
	return make(h, o->name, false, s, e);
}

struct session *session_find(const char *name)
{
	struct session *s;

	LIST_FOREACH(s, &sessions, next)
	if (strcmp(s->name, name) == 0)
		return s;
	return NULL;
}

void session_each(void (*fn)(void *arg, struct session *s), void *arg)
{
	struct session *s;

	LIST_FOREACH(s, &sessions, next)
	fn(arg, s);
}

int session_cancel(struct session *s, struct err *e)
{
	if (s->ended)
		return err_set(e, EALREADY, "session %s has ended", s->name);
	finish(s, "cancelled");
	return 0;
}

int session_begin(struct session *s, struct err *e)
{
	if (s->ended)
		return err_set(e, EALREADY, "session %s has ended", s->name);
	return 0;
}

int session_switch_now(struct session *s, struct err *e)
{
	if (s->ended)
		return err_set(e, EALREADY, "session %s has ended", s->name);
	finish(s, "done");
	return 0;
}

int session_set_bandwidth(struct session *s, uint64_t bytes_per_s, struct err *e)
{
	(void)s;
	(void)e;
	stub_bandwidth = bytes_per_s;
	return 0;
}

int session_set_downtime(struct session *s, uint64_t ns, struct err *e)
{
	(void)s;
	(void)e;
	stub_downtime = ns;
	return 0;
}

struct stub_resolve {
	session_resolve_fn fn;
	void *arg;
	char name[SESSION_NAME];
};

static void on_resolve_time(evutil_socket_t fd, short what, void *arg)
{
	struct stub_resolve *r = arg;
	json_t *tell = json_pack(
		"{s:s, s:[s,s]}", "migration", r->name, "check", "the target's log", "its VMM");
	struct err none = {0};

	(void)fd;
	(void)what;
	stub_resolved += strcmp(r->name, "silent") == 0;
	r->fn(r->arg, 0, tell, &none);
	json_decref(tell);
	free(r);
}

/* "undecided" answers at once, "silent" some time later. */
int session_resolve(
	const char *name, const char *keep, session_resolve_fn fn, void *arg, struct err *e)
{
	const struct timeval later = {.tv_usec = 50000};
	bool silent = strcmp(name, "silent") == 0;
	struct stub_resolve *r;

	if (strcmp(name, "undecided") != 0 && !silent)
		return err_set(e, ENOENT, "nothing is undecided about '%s'", name);
	snprintf(stub_keep, sizeof(stub_keep), "%s", keep ? keep : "");
	r = calloc(1, sizeof(*r));
	*r = (struct stub_resolve){.fn = fn, .arg = arg};
	strcpy(r->name, silent ? "silent" : "undecided");
	if (silent)
		event_base_once(stub_base, -1, EV_TIMEOUT, on_resolve_time, r, &later);
	else
		on_resolve_time(-1, 0, r);
	return 0;
}

json_t *session_status(const struct session *s)
{
	json_t *end = end_event(s);
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:i, s:O}", "name", s->name, "side",
		s->source ? "source" : "target", "state", s->ended ? "ended" : "copying", "stage",
		"copy", "pass", 2, "report", json_object_get(end, "report"));

	if (s->ended)
		json_object_set_new(o, "result", json_string(s->result));
	json_decref(end);
	return o;
}

const char *session_name(const struct session *s)
{
	return s->name;
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
	struct session_watch *w = arg;
	json_t *event = end_event(w->s);

	(void)fd;
	(void)what;
	w->fn(w->arg, event);
	json_decref(event);
}

struct session_watch *session_watch(
	struct session *s, void (*fn)(void *arg, json_t *event), void *arg)
{
	struct session_watch *w = calloc(1, sizeof(*w));

	w->s = s;
	w->fn = fn;
	w->arg = arg;
	w->late = event_new(s->base, -1, 0, on_late, w);
	if (s->ended)
		event_active(w->late, EV_TIMEOUT, 0);
	LIST_INSERT_HEAD(&s->watches, w, next);
	return w;
}

void session_unwatch(struct session_watch *w)
{
	if (w == NULL)
		return;
	LIST_REMOVE(w, next);
	event_free(w->late);
	free(w);
}

void session_accept(struct session_host *h, int fd, struct tls *tls, const struct preamble *p)
{
	(void)h;
	tls_free(tls);
	(void)p;
	close(fd);
}

static void count(void *arg, const char *name, json_t *records)
{
	(void)name;
	*(size_t *)arg += json_array_size(records);
}

int session_recover(struct session_host *h, struct err *e)
{
	size_t records = 0;

	return journal_scan(h->state_dir, count, &records, e);
}

void session_shutdown(void)
{
	struct session *s;

	LIST_FOREACH(s, &sessions, next)
	if (!s->ended)
		finish(s, "cancelled");
}

void stub_reset(void)
{
	struct session *s;

	while ((s = LIST_FIRST(&sessions)) != NULL) {
		struct session_watch *w;

		while ((w = LIST_FIRST(&s->watches)) != NULL)
			session_unwatch(w);
		LIST_REMOVE(s, next);
		event_free(s->tick);
		free(s);
	}
}

bool flows_rdma_asked(void *arg, const struct link_rdma_ask *ask, struct link_rdma_welcome *w)
{
	(void)arg;
	(void)ask;
	(void)w;
	return false;
}

void flows_rdma_removed(void *arg)
{
	(void)arg;
}

void session_counters(uint64_t sum[2][STATS])
{
	memset(sum, 0, 2 * sizeof(sum[0]));
}

void session_metrics(FILE *out)
{
	fputs("# TYPE stub gauge\nstub 1\n", out);
}
