// SPDX-License-Identifier: BSD-3-Clause
// godwit-bench rdma: a raw flow over the rdma link, through slots and right to its place, there
// from where pages lie or copied first, with runs of neighbouring pages of several lengths: that is
// the size of its writes, but through slots. Both ends are this process's, on the RDMA device of
// one address; all memory is populated. The source runs on CPU 0, the target on CPU 1, and both
// yield when idle, since a device that is software needs the cores too.

#include "rdma.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "guard.h"
#include "lane.h"
#include "link_rdma.h"
#include "memory.h"
#include "pingpong.h"
#include "zero.h"

#define WAIT_NS (15 * NS_PER_S)

enum { SLOTS, COPIED, DIRECT, WAYS };

static const char *const way_name[WAYS] = {"slots", "copied", "direct"};
static const unsigned runs[] = {1, 2, 4, 64}; // pages
#define RUNS (sizeof(runs) / sizeof(runs[0]))

struct rdma {
	struct bench *b;
	struct link_rdma_host *host[2]; // source, target
	struct link *up[2];             // that came up last
	struct err why;
	struct link_rdma_end *end; // while it is made
	struct link_rdma_domain *domain[2];
	struct link_rdma_memory *memory, *lent; // of the target; of the source
	struct link_rdma_key keys[REGION_MAX];
	struct lane lane[WAYS];
	struct lane *at; // of this round
	pthread_barrier_t gate;
	uint64_t ns, pages; // of this round
	_Atomic int failed;
};

static void on_up(struct rdma *t, unsigned side, struct link *l, const struct err *why)
{
	t->up[side] = l;
	if (l == NULL)
		t->why = *why;
}

static void on_source(void *arg, struct link *l, const struct err *why)
{
	on_up(arg, 0, l, why);
}

static void on_target(void *arg, struct link *l, const struct err *why)
{
	on_up(arg, 1, l, why);
}

static bool asked(void *arg, const struct link_rdma_ask *ask, struct link_rdma_welcome *w)
{
	(void)ask;
	w->domain = ((struct rdma *)arg)->domain[1];
	w->up = on_target;
	w->arg = arg;
	return true;
}

static void poll_hosts(struct rdma *t)
{
	link_rdma_host_poll(t->host[0]);
	link_rdma_host_poll(t->host[1]);
}

static int connect_both(struct rdma *t, const char *address, struct err *e)
{
	const uint8_t token[LINK_RDMA_TOKEN_BYTES] = {1};
	uint64_t end = clock_ns() + WAIT_NS;
	struct link_rdma_info i;

	t->up[0] = t->up[1] = NULL;
	link_rdma_host_info(t->host[1], &i);
	if (link_rdma_dial(
		    t->domain[0], &t->end, address, i.port, token, 0, WAIT_NS, on_source, t, e) < 0)
		return -e->errnum;
	while ((t->up[0] == NULL || t->up[1] == NULL) && t->why.errnum == 0) {
		poll_hosts(t);
		if (clock_ns() > end)
			return err_set(e, ETIMEDOUT, "no connection was made");
	}
	*e = t->why;
	return -t->why.errnum;
}

static int register_target(struct rdma *t, struct err *e)
{
	const bool which[REGION_MAX] = {true};
	int rc = link_rdma_memory_new(&t->memory, t->domain[1], &t->b->target_map, which, e);

	while (rc == 0 && (rc = link_rdma_memory_ready(t->memory, e)) == 0)
		sched_yield();
	if (rc > 0)
		link_rdma_memory_key(t->memory, 0, 0, &t->keys[0]);
	return rc < 0 ? rc : 0;
}

static int populated(int fd, uint64_t offset, uint64_t len,
	int (*run)(void *arg, uint64_t offset, uint64_t bytes), void *arg)
{
	(void)fd;
	return run(arg, offset, len);
}

static int lend_source(struct rdma *t, struct err *e)
{
	int rc = link_rdma_memory_lend(&t->lent, t->domain[0], &t->b->map, populated, e);

	while (rc == 0 && (rc = link_rdma_memory_ready(t->lent, e)) == 0)
		sched_yield();
	return rc < 0 ? rc : 0;
}

static int rdma_open(struct rdma *t, const char *address, struct err *e)
{
	const struct link_rdma_host_config c = {
		.address = address, .traffic_class = -1, .trusted = true, .asked = asked, .arg = t};
	int rc = 0;

	zero_init();
	guard_install();
	for (unsigned i = 0; i < 2 && rc == 0; i++)
		rc = link_rdma_host_open(&t->host[i], &c, e);
	for (unsigned i = 0; i < 2 && rc == 0; i++)
		rc = link_rdma_domain_new(&t->domain[i], t->host[i], e);
	rc = rc == 0 ? lend_source(t, e) : rc;
	for (unsigned way = 0; way < WAYS && rc == 0; way++) {
		struct lane *l = &t->lane[way];

		rc = connect_both(t, address, e);
		if (rc == 0 && way != SLOTS) {
			link_rdma_direct(t->up[0], t->keys);
			link_rdma_direct(t->up[1], NULL);
		}
		if (rc == 0 && way != COPIED)
			link_rdma_read(t->up[0], t->lent);
		if (rc == 0)
			rc = lane_open_over(l, t->b, t->up[0], t->up[1], &codec_raw, 0, e);
		if (rc == 0 && way != SLOTS)
			rc = recv_job_pin(&l->recv_job, 0, e);
	}
	// Now that nothing punches the target's memory any more.
	memset(t->b->target, 0, t->b->pages * PAGE_BYTES);
	return rc == 0 ? register_target(t, e) : rc;
}

static void rdma_close(struct rdma *t)
{
	for (unsigned way = 0; way < WAYS; way++)
		lane_close(&t->lane[way]);
	link_rdma_memory_free(t->memory);
	link_rdma_memory_free(t->lent);
	link_rdma_domain_free(t->domain[0]);
	link_rdma_domain_free(t->domain[1]);
	link_rdma_host_close(t->host[0]);
	link_rdma_host_close(t->host[1]);
}

// Runs of so many pages, as many between them.
static uint64_t pattern(unsigned run)
{
	uint64_t mask = 0;

	for (unsigned p = 0; p < CHUNK_PAGES; p++)
		mask |= (uint64_t)(p / run % 2 == 0) << p;
	return mask;
}

static void prepare(struct rdma *t, uint64_t mask)
{
	struct lane *l = t->at;

	memset(t->b->target, 0, t->b->pages * PAGE_BYTES);
	memset(l->recv_job.written, 0xff, t->b->map.nchunks * sizeof(*l->recv_job.written));
	t->pages = lane_publish(&t->b->map, &l->dirty, &l->claim, mask, l->pass);
	if (t->pages == 0)
		t->failed = ENOSPC;
	atomic_store(&l->recv->run_pass, l->pass);
}

static void run_flow(struct rdma *t, struct flow *f)
{
	while (t->failed == 0 && atomic_load(&f->done_pass) != t->at->pass) {
		if (flow_poll(f))
			continue;
		if (atomic_load(&f->error) != 0) {
			fprintf(stderr, "godwit-bench: %s\n", f->why.text);
			t->failed = EIO;
		}
		sched_yield();
	}
}

static void *run_target(void *arg)
{
	struct rdma *t = arg;
	uint32_t pass = t->at->pass;

	pin(1);
	pthread_barrier_wait(&t->gate);
	run_flow(t, t->at->recv);
	// Its answer may still be in the link.
	while (t->failed == 0 && atomic_load(&t->at->send->done_pass) != pass)
		if (!flow_poll(t->at->recv))
			sched_yield();
	return NULL;
}

static bool came(const struct bench *b, uint64_t mask)
{
	for (uint64_t p = 0; p < b->pages; p++)
		if ((mask >> p % CHUNK_PAGES & 1) != 0 &&
			memcmp(b->image + p * PAGE_BYTES, b->target + p * PAGE_BYTES, PAGE_BYTES) !=
				0)
			return false;
	return true;
}

static uint64_t busy(const struct flow *f)
{
	uint64_t sum = 0;

	for (unsigned i = STAT_cycles_claim; i < STAT_cycles_idle; i++)
		sum += stats_get(&f->stats, i);
	return sum;
}

static void run_race(struct rdma *t, unsigned way, unsigned run, unsigned round, bool json)
{
	uint64_t mask = pattern(run), source, target, t0;
	pthread_t thread;

	t->at = &t->lane[way];
	source = busy(t->at->send);
	target = busy(t->at->recv);
	prepare(t, mask);
	if (pthread_create(&thread, NULL, run_target, t) != 0)
		abort();
	pthread_barrier_wait(&t->gate);
	t0 = clock_ns();
	atomic_store(&t->at->send->run_pass, t->at->pass);
	run_flow(t, t->at->send);
	t->ns = clock_ns() - t0;
	pthread_join(thread, NULL);
	t->at->pass++;
	source = busy(t->at->send) - source;
	target = busy(t->at->recv) - target;
	if (t->failed == 0 && !came(t->b, mask)) {
		fprintf(stderr, "godwit-bench: rdma/%s: memory differs\n", way_name[way]);
		t->failed = EBADMSG;
	}
	if (t->failed != 0)
		return;
	printf(json ? "{\"stage\": \"rdma/%s-%uk\", \"round\": %u, \"content\": \"%s\", "
		      "\"gib_per_s\": %.4f, \"cycles_a_page_source\": %.0f, "
		      "\"cycles_a_page_target\": %.0f}\n"
		    : "rdma/%s-%uk round %u, %s: %.3f GiB/s; busy cycles a page %.0f and %.0f\n",
		way_name[way], run * (unsigned)(PAGE_BYTES >> 10), round, bench_content(t->b),
		(double)t->pages * PAGE_BYTES / (1 << 30) / ((double)t->ns / 1e9),
		(double)source / (double)t->pages, (double)target / (double)t->pages);
	fflush(stdout);
}

int rdma_bench(struct bench *b, const char *address, unsigned rounds, bool json)
{
	struct rdma *t = calloc(1, sizeof(*t));
	struct err e = {0};
	int rc = t == NULL ? -ENOMEM : bench_target(b);

	if (rc == 0) {
		t->b = b;
		rc = rdma_open(t, address, &e);
	}
	if (rc != 0) {
		fprintf(stderr, "godwit-bench: %s\n", e.errnum != 0 ? e.text : strerror(-rc));
		if (t != NULL)
			rdma_close(t);
		free(t);
		return 1;
	}
	pthread_barrier_init(&t->gate, NULL, 2);
	pin(0);
	for (unsigned round = 0; round < rounds; round++)
		for (unsigned way = 0; way < WAYS; way++)
			for (unsigned i = 0; i < RUNS && t->failed == 0; i++)
				run_race(t, way, runs[i], round, json);
	rc = t->failed != 0;
	rdma_close(t);
	pthread_barrier_destroy(&t->gate);
	free(t);
	return rc;
}
