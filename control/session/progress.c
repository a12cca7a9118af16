// SPDX-License-Identifier: BSD-3-Clause
// How the copying goes, as events: a pass begins, it goes on, it has ended; and what the target
// places. Run by the
// control loop at a slow, fixed pace; the cores only bump their own counters. godwit-events(5)
// tells each field, and a test compares.

#include "session_impl.h"

#include "clock.h"

#include <string.h>

#define PROGRESS_NS (200 * NS_PER_MS)
#define RATE_PAGES  1024u    /* a pass of at least so many tells a rate */
#define STALL_NS    NS_PER_S /* two small files for each vCPU */
#define PASSES_KEPT 200u     /* in the report: the first ones, and as many of the last */

static json_t *num(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static double per_s(uint64_t n, uint64_t ns)
{
	return ns == 0 ? 0.0 : (double)n * 1e9 / (double)ns;
}

static json_t *maybe_ms(uint64_t ns)
{
	return ns == UINT64_MAX ? json_null() : json_real(ms(ns));
}

/* What the counters of this session grew by since then. */
static uint64_t since(const struct session *s, const uint64_t then[STATS], enum stats_id i)
{
	return s->fig.stats[i] - then[i];
}

static void add_pages(const struct session *s, json_t *o)
{
	const uint64_t *then = s->seen.pass;

	json_object_set_new(o, "pages_data", num(since(s, then, STAT_pages_data)));
	json_object_set_new(o, "pages_zero", num(since(s, then, STAT_pages_zero)));
	json_object_set_new(o, "pages_hole", num(since(s, then, STAT_pages_hole)));
}

void progress_pass_begins(struct session *s)
{
	s->fig.pass_began_ns = clock_ns();
	session_sum_stats(s);
	memcpy(s->seen.pass, s->fig.stats, sizeof(s->seen.pass));
}

/* Distinct pages that the guest wrote a second, between two looks at it. */
static void note_dirty_rate(struct session *s)
{
	const struct pass_facts *f = &s->pass.facts;
	uint64_t now = clock_ns(), then = s->seen.looked_ns;

	if (f->kind == PASS_LIVE && f->number > 0 && then != 0 && now > then) {
		uint64_t back = s->seen.back_pages;

		s->seen.dirty_known = true;
		s->seen.dirty_per_s =
			per_s(f->dirty_pages > back ? f->dirty_pages - back : 0, now - then);
	}
	s->seen.looked_ns = now;
}

static json_t *dirty_rate(const struct session *s)
{
	return s->seen.dirty_known ? json_real(s->seen.dirty_per_s) : json_null();
}

void progress_pass(struct session *s, const struct converge_decision *d)
{
	const struct pass_facts *f = &s->pass.facts;
	const char *what = d->what == CONVERGE_SWITCH    ? "switch"
			   : d->what == CONVERGE_GIVE_UP ? "give up"
							 : "go on";
	json_t *event;

	note_dirty_rate(s);
	event = json_pack("{s:s, s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:s, s:s, s:f}",
		"event", "pass", "pass", (int)f->number, "kind", pass_kind_name(f->kind),
		"dirty_pages", num(f->dirty_pages), "hole_pages", num(f->hole_pages),
		"skipped_pages", num(f->skipped_pages), "balloon_pages", num(f->balloon_pages),
		"free_pages", num(s->exclude.free_pages), "dirty_per_s", dirty_rate(s),
		"elapsed_ms", ms(clock_ns() - s->fig.began_ns), "decision", what, "reason",
		d->reason, "expected_pause_ms", ms(d->expected_pause_ns));
	progress_pass_none(s);
	s->fig.pass = json_incref(event);
	watch_emit(s, event);
}

void progress_pass_none(struct session *s)
{
	json_decref(s->fig.pass);
	s->fig.pass = NULL;
}

/* The pass as the report lists it too. */
static json_t *pass_facts(const struct session *s, uint64_t pages, uint64_t ns)
{
	const struct pass_facts *f = &s->pass.facts;
	json_t *o = json_pack(
		"{s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:f, s:f, s:f, s:f}",
		"pass", (int)f->number, "kind", pass_kind_name(f->kind), "dirty_pages",
		num(f->dirty_pages), "hole_pages", num(f->hole_pages), "skipped_pages",
		num(f->skipped_pages), "back_pages", num(f->back_pages), "balloon_pages",
		num(f->balloon_pages), "free_pages", num(f->free_pages), "pages", num(pages),
		"windows", num(f->windows), "ms", ms(ns), "look_ms", ms(f->look_ns), "hole_ms",
		ms(f->hole_ns), "arm_ms", ms(f->arm_ns), "walk_ms", ms(f->walk_ns));

	add_pages(s, o);
	json_object_set_new(o, "bytes_wire", num(since(s, s->seen.pass, STAT_bytes_wire)));
	return o;
}

void progress_pass_over(struct session *s, uint64_t now)
{
	uint64_t pages, ns = now - s->fig.pass_began_ns;
	json_t *facts, *event;

	session_sum_stats(s);
	pages = since(s, s->seen.pass, STAT_bytes_pages) / PAGE_BYTES;
	s->seen.back_pages = s->pass.facts.back_pages;
	progress_pass_none(s);
	facts = pass_facts(s, pages, ns);
	json_array_append(s->fig.passes, facts);
	/* A guest that is held has ten passes a second. */
	if (json_array_size(s->fig.passes) > 2 * PASSES_KEPT)
		json_array_remove(s->fig.passes, PASSES_KEPT);
	event = json_pack("{s:s, s:f}", "event", "passed", "elapsed_ms", ms(now - s->fig.began_ns));
	json_object_update(event, facts);
	json_decref(facts);
	watch_emit(s, event);
	s->fig.free_pages = s->exclude.free_pages;
	if (pages >= RATE_PAGES && ns > 0)
		s->fig.pages_per_s = (uint64_t)per_s(pages, ns);
}

/* How each core of this session spent its time since the last event: shares of 1. */
static json_t *core_shares(struct session *s, uint64_t ns)
{
	const double cycles = (double)ns * (double)clock_cycles_hz() / 1e9;
	json_t *list = json_array();

	for (unsigned i = 0; i < s->nflows; i++) {
		json_t *core = json_pack("{s:i, s:i}", "flow", (int)i, "cpu", (int)s->flow_cpu[i]);

		for (unsigned c = 0; c < PROGRESS_CYCLES; c++) {
			enum stats_id id = STAT_cycles_claim + c;
			uint64_t now = s->flow[i] != NULL ? stats_get(&s->flow[i]->stats, id) : 0;
			uint64_t then = s->seen.cycles[i][c];

			s->seen.cycles[i][c] = now;
			json_object_set_new(core, stats_name[id] + strlen("cycles_"),
				json_real(cycles > 0 && now > then ? (double)(now - then) / cycles
								   : 0.0));
		}
		json_array_append_new(list, core);
	}
	return list;
}

static void add_forecast(const struct session *s, json_t *o, uint64_t left, double pages_per_s)
{
	const struct converge_forecast f =
		converge_forecast(&s->opt.limits, &(struct converge_pace){.pages_left = left,
							  .pages_per_s = pages_per_s,
							  .dirty_known = s->seen.dirty_known,
							  .dirty_per_s = s->seen.dirty_per_s,
							  .overhead_ns = PRECOPY_OVERHEAD_NS});

	json_object_set_new(o, "pass_ends_ms", maybe_ms(f.pass_ns));
	json_object_set_new(
		o, "ends_ms", maybe_ms(s->opt.hold && !s->switch_now ? UINT64_MAX : f.end_ns));
	json_object_set_new(o, "pause_ms", maybe_ms(f.pause_ns));
}

static json_t *stall(const struct session *s)
{
	struct stall_figures f;

	return stall_figure(&s->stall, &f) ? json_real(ms(f.kernel_ns + f.wait_ns)) : json_null();
}

/* The next event tells what came after this. */
static void told(struct session *s, uint64_t now)
{
	memcpy(s->seen.stats, s->fig.stats, sizeof(s->seen.stats));
	s->seen.at_ns = now;
}

static void emit(struct session *s, uint64_t now)
{
	const struct pass_facts *f = &s->pass.facts;
	uint64_t ns = now - s->seen.at_ns, *then = s->seen.stats;
	uint64_t done, left, pages, wire;
	double rate;
	json_t *o;

	session_sum_stats(s);
	pages = since(s, then, STAT_bytes_pages) / PAGE_BYTES;
	wire = since(s, then, STAT_bytes_wire);
	done = since(s, s->seen.pass, STAT_bytes_pages) / PAGE_BYTES;
	left = f->dirty_pages + f->hole_pages > done ? f->dirty_pages + f->hole_pages - done : 0;
	rate = per_s(done, now - s->fig.pass_began_ns);
	o = json_pack("{s:s, s:i, s:s, s:f, s:o, s:o, s:o, s:f, s:f, s:f, s:o, s:f}", "event",
		"progress", "pass", (int)f->number, "kind", pass_kind_name(f->kind), "elapsed_ms",
		ms(now - s->fig.began_ns), "pages_done", num(done), "pages_left", num(left),
		"bytes_wire", num(s->fig.stats[STAT_bytes_wire]), "gib_per_s",
		rate * PAGE_BYTES / (double)(UINT64_C(1) << 30), "pages_per_s", per_s(pages, ns),
		"wire_per_s", per_s(wire, ns), "dirty_per_s", dirty_rate(s), "ratio",
		wire > 0 ? (double)pages * PAGE_BYTES / (double)wire : 0.0);
	add_pages(s, o);
	add_forecast(s, o, left, rate);
	json_object_set_new(o, "stall_ms", stall(s));
	json_object_set_new(o, "cores", core_shares(s, ns));
	told(s, now);
	watch_emit(s, o);
}

static void emit_placing(struct session *s, uint64_t now)
{
	const uint64_t *st = s->fig.stats, *then = s->seen.stats;
	uint64_t ns = now - s->seen.at_ns;
	json_t *o;

	session_sum_stats(s);
	o = json_pack("{s:s, s:f, s:o, s:o, s:o, s:o, s:f, s:f, s:o}", "event", "placing",
		"elapsed_ms", ms(now - s->fig.began_ns), "pages_data", num(st[STAT_pages_data]),
		"pages_zero", num(st[STAT_pages_zero]), "pages_hole", num(st[STAT_pages_hole]),
		"bytes_wire", num(st[STAT_bytes_wire]), "pages_per_s",
		per_s(since(s, then, STAT_bytes_pages) / PAGE_BYTES, ns), "wire_per_s",
		per_s(since(s, then, STAT_bytes_wire), ns), "cores", core_shares(s, ns));
	told(s, now);
	watch_emit(s, o);
}

void progress_placing(struct session *s)
{
	uint64_t now = clock_ns();

	if (s->flows_up > 0 && now - s->seen.at_ns >= PROGRESS_NS && !LIST_EMPTY(&s->watches))
		emit_placing(s, now);
}

void progress_tick(struct session *s)
{
	uint64_t now = clock_ns();

	if (!s->have_pass)
		return;
	if (!s->paused && now - s->seen.stall_ns >= STALL_NS) {
		s->seen.stall_ns = now;
		stall_look(&s->stall);
	}
	if (now - s->seen.at_ns >= PROGRESS_NS && !LIST_EMPTY(&s->watches))
		emit(s, now);
}
