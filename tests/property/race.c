// SPDX-License-Identifier: BSD-3-Clause
// Threads on what they share: a control thread with the real pass, dirty set and claim, a polling
// core for each pair of flows, the helper that makes holes. The loop link joins a source's flow and
// a target's on one core, as it is for one thread only; the planes, the queue of spans, the marks
// of what was placed and the words of the flows are shared by all. Built with the thread sanitizer
// (see ./check) a race ends it; without, it still moves a guest and compares.
//
//   race [SEEDS]
//
// The guest writes while its pages are read: law 10's business, not a race. It does so through
// mappings of its own, as from another process, which the sanitizer can't see.

#include "clock.h"
#include "flow.h"
#include "pass.h"
#include "punch.h"
#include "sim.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CORES      2u
#define SEEDS      40u
#define LIVE       4u  /* passes with the guest running */
#define PASSES_MAX 60u /* the last pass repeats until nothing is left; it must come to an end */
#define ARMS       8u

struct core {
	struct flow *send, *recv;
	pthread_t thread;
	_Atomic bool stop;
};

struct race {
	struct seed seed;
	struct sim sim;
	struct region_map memory; /* the source's, as Godwit maps it */
	struct dirty dirty;
	struct claim claim;
	struct send_job send_job;
	struct recv_job recv_job;
	struct core core[CORES];
	struct pass pass;
	uint64_t *out, *in;
	uint32_t number;
	struct {
		uint64_t first, n;
	} arm[ARMS];
	unsigned arm_head, arm_tail;
	uint64_t stats[STATS];
};

static void must(bool ok, const char *what)
{
	if (!ok) {
		printf("FAILED: %s\n", what);
		exit(1);
	}
}

/* Answered by move(), as soon as the call is back. */
static void io_look(void *arg, bool last)
{
	(void)arg;
	(void)last;
}

static void io_arm(void *arg, uint64_t first, uint64_t n)
{
	struct race *r = arg;

	r->arm[r->arm_tail % ARMS].first = first;
	r->arm[r->arm_tail++ % ARMS].n = n;
}

static int io_populated(void *arg, struct region *region,
	int (*found)(void *found_arg, uint64_t offset, uint64_t bytes), void *found_arg,
	struct err *e)
{
	(void)arg;
	(void)e;
	return sim_populated(region, found, found_arg);
}

static const struct pass_io io = {.look = io_look, .arm = io_arm, .populated = io_populated};

static void *core_main(void *arg)
{
	struct core *c = arg;

	while (!atomic_load_explicit(&c->stop, memory_order_relaxed)) {
		bool moved = flow_poll(c->send);

		if (!flow_poll(c->recv) && !moved)
			sched_yield();
	}
	return NULL;
}

static void open_core(struct race *r, struct core *c)
{
	struct link_loop_faults f = {.seed = seed_next(&r->seed),
		.duplicate = (uint32_t)seed_below(&r->seed, 3000),
		.reorder = (uint32_t)seed_below(&r->seed, 20000),
		.delay = (uint32_t)seed_below(&r->seed, 20000),
		.lose = (uint32_t)seed_below(&r->seed, 2) * 2000,
		.stale = (uint32_t)seed_below(&r->seed, 3000)};
	struct link *a, *b;
	struct err e;

	must(link_loop_pair(&a, &b, &f, &e) == 0 &&
			flow_send_new(&c->send, &r->send_job, a, 0, -1, &e) == 0 &&
			flow_recv_new(&c->recv, &r->recv_job, b, 0, -1, &e) == 0,
		"flows");
	must(pthread_create(&c->thread, NULL, core_main, c) == 0, "a thread");
}

// The same files, mapped once more.
static void map_again(struct region_map *to, const struct region_map *from)
{
	region_map_init(to);
	for (unsigned i = 0; i < from->n; i++) {
		const struct region *r = &from->r[i];
		int fd = dup(r->fd);

		must(fd >= 0 &&
				region_add(to, r->name, fd, r->bytes, r->page_bytes, NULL) ==
					(int)i &&
				region_mmap(&to->r[i], false, NULL) == 0,
			"a second mapping");
	}
}

static void open_all(struct race *r, uint64_t seed)
{
	struct err e;

	memset(r, 0, sizeof(*r));
	r->seed.state = seed;
	sim_open(&r->sim, &r->seed);
	map_again(&r->memory, &r->sim.from);
	r->out = calloc(2 * r->memory.nchunks, sizeof(uint64_t));
	r->in = r->out + r->memory.nchunks;
	r->send_job.map = &r->memory;
	r->send_job.dirty = &r->dirty;
	r->send_job.claim = &r->claim;
	r->send_job.codec = seed_below(&r->seed, 2) == 0 ? &codec_isal : NULL;
	r->send_job.level = 1;
	must(r->out != NULL && dirty_init(&r->dirty, r->memory.nchunks) == 0 &&
			claim_init(&r->claim, 1) == 0 &&
			pass_init(&r->pass, &r->memory, &r->dirty, &r->claim, r->out, r->in, -1,
				&io, r) == 0 &&
			recv_job_init(&r->recv_job, &r->sim.to, false, &e) == 0,
		"memory");
	for (unsigned i = 0; i < CORES; i++)
		open_core(r, &r->core[i]);
}

static void close_all(struct race *r)
{
	for (unsigned i = 0; i < CORES; i++) {
		struct core *c = &r->core[i];

		atomic_store_explicit(&c->stop, true, memory_order_relaxed);
		must(pthread_join(c->thread, NULL) == 0, "the end of a thread");
		must(atomic_load(&c->send->error) == 0, c->send->why.text);
		must(atomic_load(&c->recv->error) == 0, c->recv->why.text);
		flow_free(c->send);
		flow_free(c->recv);
	}
	recv_job_fini(&r->recv_job);
	pass_fini(&r->pass);
	claim_fini(&r->claim);
	dirty_fini(&r->dirty);
	region_map_close(&r->memory);
	sim_close(&r->sim);
	free(r->out);
}

// As control's tick does it, from another thread than the flows'.
static bool barriers_done(struct race *r)
{
	bool all = true;

	for (unsigned i = 0; i < CORES; i++) {
		struct flow *f = r->core[i].send;

		must(atomic_load_explicit(&f->error, memory_order_acquire) == 0, f->why.text);
		all &= atomic_load_explicit(&f->done_pass, memory_order_acquire) == r->number;
		stats_sum(r->stats, &f->stats);
	}
	return all;
}

static void run_pass(struct race *r)
{
	for (unsigned i = 0; i < CORES; i++)
		atomic_store_explicit(&r->core[i].send->run_pass, r->number, memory_order_release);
	pass_go(&r->pass);
	while (r->pass.state != PASS_PUBLISHED || !barriers_done(r)) {
		must(r->pass.state != PASS_FAILED, r->pass.why.text);
		if (r->number < LIVE)
			sim_guest(&r->sim);
		if (r->arm_head < r->arm_tail) {
			uint64_t first = r->arm[r->arm_head % ARMS].first;
			uint64_t n = r->arm[r->arm_head++ % ARMS].n;

			sim_arm(&r->sim, first, n, r->in + first, r->out + first);
			pass_armed(&r->pass, first, n, 0, NULL);
		}
		pass_poll(&r->pass);
		sched_yield();
	}
	pass_close(&r->pass);
	r->number++;
}

static void move(struct race *r)
{
	for (;;) {
		bool paused = r->number >= LIVE;

		must(r->number < PASSES_MAX, "the last pass does not come to an end");
		pass_begin(&r->pass, r->number, paused ? PASS_LAST : PASS_LIVE);
		sim_look(&r->sim, r->out);
		pass_looked(&r->pass, 0, NULL);
		if (paused && r->pass.facts.dirty_pages == 0 && r->pass.facts.hole_pages == 0)
			return;
		run_pass(r);
	}
}

int main(int argc, char **argv)
{
	unsigned long seeds = argc > 1 ? strtoul(argv[1], NULL, 0) : SEEDS;
	struct race *r = malloc(sizeof(*r));
	char why[256];

	must(r != NULL, "memory");
	for (uint64_t seed = 1; seed <= seeds; seed++) {
		open_all(r, seed);
		move(r);
		must(sim_same(&r->sim, why, sizeof(why)), why);
		printf("seed %llu: %u passes, %llu guest writes\n", (unsigned long long)seed,
			r->number, (unsigned long long)r->sim.writes);
		close_all(r);
	}
	free(r);
	return 0;
}
