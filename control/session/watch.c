// SPDX-License-Identifier: BSD-3-Clause
// What people and programs get told of a session: events as they happen, and the final report.

#include "session_impl.h"

#include "clock.h"

#include <stdio.h>
#include <stdlib.h>

static json_t *num(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static double ratio(uint64_t a, uint64_t b)
{
	return b == 0 ? 0.0 : (double)a / (double)b;
}

static double gib_per_s(uint64_t bytes, uint64_t ns)
{
	return ns == 0 ? 0.0 : (double)bytes / (double)(UINT64_C(1) << 30) / ((double)ns / 1e9);
}

void watch_emit(struct session *s, json_t *event)
{
	struct session_watch *w, *next;

	json_object_set_new(event, "name", json_string(s->name));
	for (w = LIST_FIRST(&s->watches); w != NULL; w = next) {
		next = LIST_NEXT(w, next);
		w->fn(w->arg, event);
	}
	json_decref(event);
}

void watch_text(struct session *s, enum log_level level, const char *fmt, ...)
{
	char text[ERR_TEXT_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_write(level, s->name, "%s", text);
	watch_emit(s, json_pack("{s:s, s:s, s:s}", "event", "log", "level", log_level_name(level),
			      "text", text));
}

void watch_warn(struct session *s, const struct vmm_answer *a)
{
	if (a->warn.errnum != 0)
		watch_text(s, LOG_WARN, "%s", a->warn.text);
}

void watch_state(struct session *s)
{
	watch_emit(s, json_pack("{s:s, s:s, s:s}", "event", "state", "state",
			      session_state_name[s->state], "stage", stage_table[s->stage].name));
}

void watch_know_vmm(struct session *s)
{
	s->hello = s->vmm->hello;
	for (unsigned i = 0; i < s->vmm->map.n; i++)
		if (s->vmm->map.r[i].page_bytes > s->page_bytes)
			s->page_bytes = s->vmm->map.r[i].page_bytes;
}

static const char *memory_kind(const struct session *s, char *buf, size_t bytes)
{
	if (s->page_bytes == 0)
		return "unknown";
	if (s->page_bytes == PAGE_BYTES)
		return "4 KiB pages";
	snprintf(buf, bytes, "%u MiB huge pages", s->page_bytes >> 20);
	return buf;
}

static json_t *cores(const struct session *s)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < s->flows_up; i++)
		json_array_append_new(list, json_integer(s->flow_cpu[i]));
	return list;
}

static void add_nic(json_t *r, const struct session_nic *nic)
{
	const struct link_nic_info *l = &nic->links;

	json_object_set_new(r, "port",
		json_pack("{s:s, s:s, s:s, s:i, s:i, s:s, s:b, s:o, s:s, s:i, s:f, s:o, s:o, s:o, "
			  "s:o, s:o, s:o}",
			"name", nic->offer.name, "driver", nic->info.driver, "about", nic->about,
			"node", nic->info.node, "queues", (int)nic->info.queues, "steering",
			nic->info.steering, "zero_copy",
			l->zero_copy && (!nic->info.maps || nic->mapped.mapped_bytes > 0),
			"mapped_bytes", num(nic->mapped.mapped_bytes), "copies", nic->copies,
			"path_mtu", (int)l->mtu, "rtt_us", (double)l->rtt_ns / 1e3, "packets_out",
			num(l->packets_out), "packets_in", num(l->packets_in), "packets_lost",
			num(l->lost), "packets_bad", num(l->bad), "spurious", num(l->spurious),
			"timeouts", num(l->timeouts)));
}

/* What protects the pages on their way, by whose code; null before preflight. */
static json_t *seal(const struct session *s)
{
	if (s->nflows == 0)
		return json_null();
	return s->seal != NULL ? json_sprintf("%s by %s", s->seal->name, s->seal->by)
			       : json_string("none");
}

static void add_stall(json_t *r, const struct stall *s)
{
	struct stall_figures f;

	if (!stall_figure(s, &f))
		return;
	json_object_set_new(r, "stall_ms", json_real(ms(f.kernel_ns + f.wait_ns)));
	json_object_set_new(r, "stall",
		json_pack("{s:i, s:f, s:f, s:f, s:s}", "vcpus", (int)f.vcpus, "kernel_ms",
			ms(f.kernel_ns), "wait_ms", ms(f.wait_ns), "over_ms", ms(f.over_ns),
			"baseline", f.whole_life ? "life" : "window"));
}

json_t *watch_report(struct session *s)
{
	const struct session_figures *f = &s->fig;
	const uint64_t *st = f->stats;
	uint64_t end = f->ended_ns != 0 ? f->ended_ns : clock_ns();
	uint64_t copy_end = f->copy_ended_ns != 0 ? f->copy_ended_ns : end;
	uint64_t copy_ns = f->copy_began_ns != 0 ? copy_end - f->copy_began_ns : 0;
	char kind[32];
	json_t *r, *counters = json_object();

	session_sum_stats(s);
	for (unsigned i = 0; i < STATS; i++)
		json_object_set_new(counters, stats_name[i], num(st[i]));
	r = json_pack("{s:f, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:f, s:f}", "total_ms",
		ms(end - f->began_ns), "passes", (int)f->begun, "pages_data",
		num(st[STAT_pages_data]), "pages_zero", num(st[STAT_pages_zero]), "pages_hole",
		num(st[STAT_pages_hole]), "pages_skipped", num(f->skipped_pages), "pages_torn",
		num(st[STAT_pages_torn]), "bytes_guest", num(st[STAT_bytes_pages]), "bytes_wire",
		num(st[STAT_bytes_wire]), "ratio", ratio(st[STAT_bytes_pages], st[STAT_bytes_wire]),
		"gib_per_s", gib_per_s(st[STAT_bytes_pages], copy_ns), "copy_ms", ms(copy_ns));
	if (f->pause_ns != 0)
		json_object_set_new(r, "pause_ms", json_real(ms(f->pause_ns)));
	add_stall(r, &s->stall);
	if (s->source && s->throttle_least < 100)
		json_object_set_new(r, "throttle_percent", json_integer(s->throttle_least));
	if (f->reconnects != 0)
		json_object_set_new(r, "reconnects", json_integer(f->reconnects));
	json_object_set_new(r, "pages_balloon", num(f->balloon_pages));
	json_object_set_new(r, "pages_free", num(f->free_pages));
	json_object_set_new(r, "bytes_balloon", num(f->balloon_bytes));
	json_object_set_new(r, "bytes_balloon_paused", num(f->balloon_paused_bytes));
	json_object_set_new(r, "populated_bytes", num(f->populated_bytes));
	json_object_set_new(r, "state_bytes", num(f->state_bytes));
	json_object_set_new(r, "verified_pages", num(f->verified_pages));
	json_object_set_new(r, "verify_ms", json_real(ms(f->verify_ns)));
	if (s->page_bytes != 0) {
		json_object_set_new(r, "hypervisor", json_string(s->hello.hypervisor));
		json_object_set_new(r, "tracker", json_string(s->hello.tracker));
		json_object_set_new(r, "tracker_mode", json_string(s->hello.mode));
	}
	if (s->granule_bytes != 0)
		json_object_set_new(r, "granule_bytes", num(s->granule_bytes));
	json_object_set_new(r, "memory", json_string(memory_kind(s, kind, sizeof(kind))));
	if (s->opt.link[0] != '\0')
		json_object_set_new(r, "link", json_string(s->opt.link));
	if (s->nic.about[0] != '\0')
		add_nic(r, &s->nic);
	if (s->rdma.on)
		json_object_set_new(r, "rdma", flows_rdma_report(s));
	if (s->source) {
		json_object_set_new(
			r, "codec", json_string(s->opt.codec != NULL ? s->opt.codec->name : ""));
		json_object_set_new(r, "codec_level", json_integer(s->opt.codec_level));
	}
	json_object_set_new(r, "seal", seal(s));
	json_object_set_new(r, "insecure", json_boolean(s->host->tls == NULL));
	json_object_set_new(r, "flows", json_integer(s->nflows));
	json_object_set_new(r, "cores", cores(s));
	json_object_set_new(r, "counters", counters);
	if (f->passes != NULL)
		json_object_set(r, "passes_detail", f->passes);
	return r;
}

static json_t *end_event(struct session *s)
{
	json_t *ev = json_pack("{s:s, s:s, s:s}", "event", "end", "result",
		session_result_name(s->result), "side", s->source ? "source" : "target");

	json_object_set_new(
		ev, "error", s->why.errnum != 0 ? json_string(s->why.text) : json_null());
	json_object_set_new(ev, "stage", json_string(stage_table[s->stage].name));
	json_object_set_new(ev, "report", watch_report(s));
	return ev;
}

void watch_end(struct session *s)
{
	watch_emit(s, end_event(s));
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
	struct session_watch *w = arg;

	(void)fd;
	(void)what;
	if (w->s != NULL) {
		json_t *ev = end_event(w->s);

		json_object_set_new(ev, "name", json_string(w->s->name));
		w->fn(w->arg, ev);
		json_decref(ev);
	}
}

struct session_watch *session_watch(
	struct session *s, void (*fn)(void *arg, json_t *event), void *arg)
{
	struct session_watch *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	*w = (struct session_watch){.s = s, .fn = fn, .arg = arg};
	LIST_INSERT_HEAD(&s->watches, w, next);
	if (s->state == SESSION_ENDED || s->state == SESSION_UNDECIDED) {
		struct timeval now = {0, 0};

		w->late = event_new(s->host->base, -1, 0, on_late, w);
		if (w->late != NULL)
			event_add(w->late, &now);
	}
	return w;
}

void session_unwatch(struct session_watch *w)
{
	if (w == NULL)
		return;
	if (w->s != NULL)
		LIST_REMOVE(w, next);
	if (w->late != NULL)
		event_free(w->late);
	free(w);
}

void watch_drop_all(struct session *s)
{
	struct session_watch *w;

	while ((w = LIST_FIRST(&s->watches)) != NULL) {
		LIST_REMOVE(w, next);
		w->s = NULL;
	}
}
