// SPDX-License-Identifier: BSD-3-Clause
// One migration in one thread: the real pass, dirty set, claim, flows and placing, over the loop
// link. Between any two of their steps the guest may write. Only the calls that cross to the VMM
// are played here: look and arm happen at one random moment, and are answered at a later one.
//
// What a thread does by itself (holes at the target) is waited for, so a seed repeats exactly.

#include "move.h"

#include "bits.h"
#include "flow.h"
#include "pass.h"
#include "punch.h"
#include "sim.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLOWS      2u
#define PASSES_MAX 200u /* the last pass repeats until nothing is left; it must come to an end */
#define ARMS       8u   /* asked for and not answered */

struct arm {
	uint64_t first, n;
	bool done;
};

struct move {
	struct seed seed;
	struct sim sim;
	struct dirty dirty;
	struct claim claim;
	struct send_job send_job;
	struct recv_job recv_job;
	struct flow *send[FLOWS], *recv[FLOWS];
	struct pass pass;
	struct exclude exclude;
	bool free_looking, free_looked;
	uint64_t free_pages;
	uint64_t *out, *in;

	uint32_t number;
	unsigned live; /* passes with the guest running */
	bool looking, looked;
	struct arm arm[ARMS];
	unsigned arm_head, arm_tail;
	bool over;
	bool kept; // old content of the target
	char *why;
	size_t why_bytes;
};

static bool paused(const struct move *m)
{
	return m->number >= m->live;
}

static void io_look(void *arg, bool last)
{
	struct move *m = arg;

	(void)last;
	m->looking = true;
	m->looked = false;
}

static void io_arm(void *arg, uint64_t first, uint64_t n)
{
	struct move *m = arg;

	m->arm[m->arm_tail++ % ARMS] = (struct arm){.first = first, .n = n};
}

static int io_populated(void *arg, struct region *r,
	int (*found)(void *found_arg, uint64_t offset, uint64_t bytes), void *found_arg,
	struct err *e)
{
	(void)arg;
	(void)e;
	return sim_populated(r, found, found_arg);
}

static void io_free_request(void *arg, uint32_t id)
{
	struct move *m = arg;

	m->sim.free_id = id;
	for (unsigned i = 0; id != 0 && !paused(m) && i < 8; i++)
		sim_hint_guest(&m->sim);
}

static void io_free_look(void *arg, uint32_t id)
{
	struct move *m = arg;

	(void)id;
	m->free_looking = true;
	m->free_looked = false;
}

static const struct pass_io io = {io_look, io_arm, io_populated, io_free_request, io_free_look};

static bool wrong(struct move *m, const char *what)
{
	if (m->why[0] == '\0')
		snprintf(m->why, m->why_bytes, "%s", what);
	m->over = true;
	return false;
}

static bool all_done(const struct move *m)
{
	for (unsigned i = 0; i < FLOWS; i++)
		if (atomic_load_explicit(&m->send[i]->done_pass, memory_order_acquire) != m->number)
			return false;
	return true;
}

static void begin(struct move *m)
{
	pass_begin(&m->pass, m->number, paused(m) ? PASS_LAST : PASS_LIVE);
}

static void close_pass(struct move *m, struct move_facts *facts)
{
	facts->free += m->pass.facts.free_pages;
	facts->balloon += m->pass.facts.balloon_pages;
	pass_close(&m->pass);
	facts->passes++;
	m->number++;
	if (m->number == PASSES_MAX)
		wrong(m, "the last pass does not come to an end");
	else
		begin(m);
}

static void go(struct move *m)
{
	if (paused(m) && m->pass.facts.dirty_pages == 0 && m->pass.facts.hole_pages == 0) {
		m->over = true;
		return;
	}
	pass_go(&m->pass);
	for (unsigned i = 0; i < FLOWS; i++)
		atomic_store_explicit(&m->send[i]->run_pass, m->number, memory_order_release);
}

static void step_free_look(struct move *m)
{
	if (!m->free_looked) {
		m->free_pages = sim_hint_look(&m->sim, m->out);
		m->free_looked = true;
		return;
	}
	m->free_looking = false;
	pass_free_looked(&m->pass, 0, m->free_pages, seed_below(&m->seed, 16) == 0, NULL);
}

// One step of the control side, of those that can be taken now.
static void step_control(struct move *m, struct move_facts *facts)
{
	struct arm *a = &m->arm[m->arm_head % ARMS];

	if (m->looking && !m->looked) {
		sim_look(&m->sim, m->out);
		m->looked = true;
	} else if (m->looking) {
		m->looking = false;
		pass_looked(&m->pass, 0, NULL);
		facts->holes += m->pass.facts.hole_pages;
	} else if (m->free_looking && seed_below(&m->seed, 2)) {
		step_free_look(m);
	} else if (m->pass.state == PASS_LOOKED) {
		go(m);
	} else if (m->arm_head < m->arm_tail && !a->done) {
		sim_arm(&m->sim, a->first, a->n, m->in + a->first, m->out + a->first);
		a->done = true;
	} else if (m->arm_head < m->arm_tail) {
		m->arm_head++;
		pass_armed(&m->pass, a->first, a->n, 0, NULL);
	} else if (m->pass.state == PASS_PUBLISHED && all_done(m)) {
		close_pass(m, facts);
	} else {
		pass_poll(&m->pass);
	}
	if (m->pass.state == PASS_FAILED)
		wrong(m, m->pass.why.text);
}

static void step_flow(struct move *m, struct flow *f)
{
	uint64_t ticket;

	flow_poll(f);
	if (atomic_load_explicit(&f->error, memory_order_acquire) != 0)
		wrong(m, f->why.text);
	if (f->kind != FLOW_RECV)
		return;
	ticket = punch_ticket(m->recv_job.punch);
	while (!punch_done(m->recv_job.punch, ticket))
		sched_yield();
}

static uint32_t fault(struct move *m, bool on)
{
	return on && seed_below(&m->seed, 2) ? (uint32_t)seed_below(&m->seed, 6000) : 0;
}

static bool open_flows(struct move *m)
{
	bool faulty = seed_below(&m->seed, 4) != 0;
	struct err e;

	for (unsigned i = 0; i < FLOWS; i++) {
		struct link_loop_faults f = {.seed = seed_next(&m->seed)};
		struct link *a, *b;

		// Without loss the sums have to agree exactly, so many seeds lose nothing.
		if (seed_below(&m->seed, 2)) {
			f.lose = fault(m, faulty);
			f.lose_answer = fault(m, faulty);
		}
		f.duplicate = fault(m, faulty);
		f.reorder = fault(m, true) * 8;
		f.corrupt = fault(m, faulty);
		f.delay = fault(m, true) * 8;
		f.stale = fault(m, faulty) * 2;
		if (link_loop_pair(&a, &b, &f, &e) < 0)
			return wrong(m, e.text);
		if (flow_send_new(&m->send[i], &m->send_job, a, 0, -1, &e) < 0)
			return wrong(m, e.text);
		if (flow_recv_new(&m->recv[i], &m->recv_job, b, 0, -1, &e) < 0)
			return wrong(m, e.text);
	}
	return true;
}

static bool open_hints(struct move *m)
{
	sim_hint_open(&m->sim);
	if (exclude_init(&m->exclude, &m->sim.from, m->sim.hints, -1) < 0)
		return false;
	m->exclude.use_balloon = m->sim.must_tell;
	m->exclude.ask_free = seed_below(&m->seed, 4) != 0;
	m->pass.x = &m->exclude;
	m->pass.free_rest_ns = 0;
	m->pass.free_window_pages = 1 + seed_below(&m->seed, 16);
	return true;
}

// What the target kept counts as held there.
static void hold_kept(struct move *m)
{
	for (unsigned i = 0; i < m->sim.from.n; i++) {
		const struct region *r = &m->sim.from.r[i];

		if (!m->recv_job.kept[i])
			continue;
		dirty_touch(&m->dirty, r->first_chunk, r->nchunks);
		bits_set_range(m->dirty.held + r->first_chunk, 0, r->bytes >> PAGE_SHIFT);
		m->kept = true;
	}
}

static bool open_all(struct move *m)
{
	struct err e;
	uint64_t bytes;

	sim_open(&m->sim, &m->seed);
	bytes = m->sim.from.nchunks * sizeof(uint64_t);
	m->out = calloc(2, bytes);
	m->in = m->out + m->sim.from.nchunks;
	m->live = (unsigned)seed_below(&m->seed, 5);
	m->send_job.map = &m->sim.from;
	m->send_job.dirty = &m->dirty;
	m->send_job.claim = &m->claim;
	m->send_job.codec = seed_below(&m->seed, 4) == 0 ? &codec_isal : NULL;
	m->send_job.level = 1;
	if (dirty_init(&m->dirty, m->sim.from.nchunks) < 0 || claim_init(&m->claim, 1) < 0 ||
		pass_init(&m->pass, &m->sim.from, &m->dirty, &m->claim, m->out, m->in, -1, &io, m) <
			0)
		return wrong(m, "no memory");
	if (seed_below(&m->seed, 2) && !open_hints(m))
		return wrong(m, "no memory");
	if (recv_job_init(&m->recv_job, &m->sim.to, seed_below(&m->seed, 2), &e) < 0)
		return wrong(m, e.text);
	m->recv_job.alone = FLOWS == 1;
	hold_kept(m);
	return open_flows(m);
}

static void add_facts(struct move *m, struct move_facts *facts)
{
	for (unsigned i = 0; i < FLOWS; i++) {
		if (m->send[i] == NULL || m->recv[i] == NULL)
			continue;
		facts->frames += stats_get(&m->recv[i]->stats, STAT_frames);
		facts->pages += stats_get(&m->recv[i]->stats, STAT_bytes_pages) >> PAGE_SHIFT;
		facts->torn += stats_get(&m->send[i]->stats, STAT_frames_torn);
		facts->lost += stats_get(&m->send[i]->stats, STAT_pages_lost);
		facts->stale += stats_get(&m->recv[i]->stats, STAT_frames_stale);
		facts->twice += stats_get(&m->recv[i]->stats, STAT_frames_twice);
	}
	facts->writes += m->sim.writes;
	facts->kept += m->kept;
}

static void close_all(struct move *m)
{
	for (unsigned i = 0; i < FLOWS; i++) {
		flow_free(m->send[i]);
		flow_free(m->recv[i]);
	}
	recv_job_fini(&m->recv_job);
	pass_fini(&m->pass);
	exclude_fini(&m->exclude);
	claim_fini(&m->claim);
	dirty_fini(&m->dirty);
	sim_close(&m->sim);
	free(m->out);
}

bool move_run(uint64_t seed, struct move_facts *facts, char *why, size_t bytes)
{
	struct move *m = calloc(1, sizeof(*m));
	bool same = false;

	if (m == NULL)
		return false;
	why[0] = '\0';
	m->seed.state = seed;
	m->why = why;
	m->why_bytes = bytes;
	if (open_all(m))
		begin(m);
	while (!m->over) {
		uint64_t what = seed_below(&m->seed, 8);

		if (what == 0 && !paused(m))
			sim_guest(&m->sim);
		else if (what <= 3)
			step_control(m, facts);
		else if (what <= 5)
			step_flow(m, m->send[what - 4]);
		else
			step_flow(m, m->recv[what - 6]);
	}
	add_facts(m, facts);
	if (why[0] == '\0' && recv_job_stale(&m->recv_job) != 0)
		wrong(m, "the target holds what was there before");
	if (why[0] == '\0')
		same = sim_same(&m->sim, why, bytes);
	close_all(m);
	free(m);
	return same;
}
