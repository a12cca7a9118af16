// SPDX-License-Identifier: BSD-3-Clause
// godwit-bench tcp: the raw path, one source core and one target core, over loopback, in plain text
// and sealed; and a plain send/recv loop between the same cores over the same loopback. Both read
// the same image and write the same target memory, all of it populated. The source runs on CPU 0,
// the target on CPU 1: unpinned, a loopback pair shares a core and its cache, which no network
// does.

#include "tcp.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "guard.h"
#include "lane.h"
#include "link_tcp.h"
#include "memory.h"
#include "pingpong.h"
#include "rates.h"
#include "zero.h"

#define SOURCE_CPU 0
#define TARGET_CPU 1

#define RACES 8u

// One side of a race; both sides wait at the gate, so that no clock runs while a thread is made.
struct side {
	struct tcp *tcp;
	int cpu;
	double cpu_s; // of this round
};

struct tcp {
	struct bench *b;
	pthread_barrier_t gate;
	uint64_t ns; // of this round, by the source
	int failed;

	// The plain loop's sockets (source, target) and the size of one call: one pair as the
	// system makes them, one with the buffers that the flow's link asks for.
	int plain[2][2];
	unsigned pair;
	uint64_t call_bytes;

	struct lane lane[2]; // plain, sealed
	struct lane *at;     // of this round
	struct rates rates[RACES];
};

// The plain loop.

static void plain_source(struct tcp *t)
{
	uint64_t bytes = t->b->pages * PAGE_BYTES;
	char placed;

	for (uint64_t at = 0; at < bytes && t->failed == 0;) {
		uint64_t n = bytes - at < t->call_bytes ? bytes - at : t->call_bytes;
		ssize_t sent = send(t->plain[t->pair][0], t->b->image + at, n, MSG_NOSIGNAL);

		if (sent <= 0)
			t->failed = errno;
		else
			at += (uint64_t)sent;
	}
	if (recv(t->plain[t->pair][0], &placed, 1, 0) != 1)
		t->failed = EPIPE;
}

static void plain_target(struct tcp *t)
{
	uint64_t bytes = t->b->pages * PAGE_BYTES;

	for (uint64_t at = 0; at < bytes;) {
		uint64_t n = bytes - at < t->call_bytes ? bytes - at : t->call_bytes;
		ssize_t got = recv(t->plain[t->pair][1], t->b->target + at, n, 0);

		if (got <= 0)
			break;
		at += (uint64_t)got;
	}
	(void)!send(t->plain[t->pair][1], "", 1, MSG_NOSIGNAL);
}

// The flow: control's part is done before the clock runs, as it is done on other cores.

static void flow_prepare(struct tcp *t)
{
	if (lane_publish(&t->b->map, &t->at->dirty, &t->at->claim, ALL_PAGES, t->at->pass) == 0)
		t->failed = ENOSPC;
	atomic_store(&t->at->recv->run_pass, t->at->pass);
}

static void flow_run(struct tcp *t, struct flow *f)
{
	while (atomic_load_explicit(&f->done_pass, memory_order_relaxed) != t->at->pass) {
		if (flow_poll(f))
			continue;
		if (atomic_load_explicit(&f->error, memory_order_acquire) != 0) {
			fprintf(stderr, "godwit-bench: %s\n", f->why.text);
			t->failed = EIO;
		}
		if (t->failed != 0)
			return;
		cpu_pause();
	}
}

static void flow_source(struct tcp *t)
{
	atomic_store(&t->at->send->run_pass, t->at->pass);
	flow_run(t, t->at->send);
}

static void flow_target(struct tcp *t)
{
	flow_run(t, t->at->recv);
	// The answer may still be in the link.
	for (unsigned i = 0; i < 16; i++)
		flow_poll(t->at->recv);
}

struct race {
	const char *name;
	void (*source)(struct tcp *t);
	void (*target)(struct tcp *t);
	unsigned pair;
	uint64_t call_bytes;
	bool fresh; // the target's memory is a hole when it begins
};

// Plain loops in several sizes: a bar takes the best of them.
static const struct race races[RACES] = {
	{"tcp/plain-256k", plain_source, plain_target, 0, 256 << 10, false},
	{"tcp/plain-1m", plain_source, plain_target, 0, 1 << 20, false},
	{"tcp/plain-256k-buf", plain_source, plain_target, 1, 256 << 10, false},
	{"tcp/plain-1m-buf", plain_source, plain_target, 1, 1 << 20, false},
	{"tcp/flow", flow_source, flow_target, 0, 0, false},
	{"tcp/sealed", flow_source, flow_target, 1, 0, false},
	{"tcp/fresh-plain", plain_source, plain_target, 1, 256 << 10, true},
	{"tcp/fresh-flow", flow_source, flow_target, 0, 0, true},
};

struct runner {
	struct side side;
	void (*run)(struct tcp *t);
};

static void *run_side(void *arg)
{
	struct runner *r = arg;
	struct tcp *t = r->side.tcp;
	struct timespec cpu;
	uint64_t t0;

	if (pin(r->side.cpu) != 0)
		t->failed = EINVAL;
	pthread_barrier_wait(&t->gate);
	t0 = clock_ns();
	if (t->failed == 0)
		r->run(t);
	if (r->side.cpu == SOURCE_CPU)
		t->ns = clock_ns() - t0;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
	r->side.cpu_s = (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9;
	return NULL;
}

// Cycles in which the core polled and found nothing are not busy. They are counted by the clock on
// the wall: when others take the core meanwhile, too many are.
static double busy_share(struct flow *f, uint64_t idle_before, double seconds)
{
	uint64_t idle = stats_get(&f->stats, STAT_cycles_idle) - idle_before;
	double busy = seconds - (double)idle / (double)clock_cycles_hz();

	return busy > 0 ? busy : 0;
}

static void report(
	struct tcp *t, const struct race *race, unsigned round, const double cpu_s[2], bool json)
{
	double pages = (double)t->b->pages;
	double gib = pages * PAGE_BYTES / (1 << 30) / ((double)t->ns / 1e9);
	double hz = (double)clock_cycles_hz();

	printf(json ? "{\"stage\": \"%s\", \"round\": %u, \"content\": \"%s\", \"gib_per_s\": "
		      "%.3f, "
		      "\"cpu_s_source\": %.3f, \"cpu_s_target\": %.3f, "
		      "\"cycles_a_page_source\": %.0f, \"cycles_a_page_target\": %.0f}\n"
		    : "%-18s round %u, %s: %.2f GiB/s; busy CPU seconds %.2f at the source, "
		      "%.2f at the target; cycles a page %.0f and %.0f\n",
		race->name, round, bench_content(t->b), gib, cpu_s[0], cpu_s[1],
		cpu_s[0] * hz / pages, cpu_s[1] * hz / pages);
	fflush(stdout);
	t->rates[race - races].gib_per_s[round] = gib;
}

// What the others left must not be what is found to be right. A flow takes memory that it did not
// write for fresh, so for it that is zeros.
static void ready_target(struct tcp *t, const struct race *race)
{
	struct bench *b = t->b;
	bool flow = race->source == flow_source;

	if (race->fresh) {
		if (fallocate(b->target_map.r[0].fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			    (off_t)(b->pages * PAGE_BYTES)) != 0)
			t->failed = errno;
		memset(t->at->recv_job.written, 0,
			b->target_map.nchunks * sizeof(*t->at->recv_job.written));
	} else {
		memset(b->target, flow ? 0 : 0xa5, b->pages * PAGE_BYTES);
		memset(t->at->recv_job.written, flow ? 0xff : 0,
			b->target_map.nchunks * sizeof(*t->at->recv_job.written));
	}
}

static bool same_memory(struct bench *b)
{
	return memcmp(b->image, b->target, b->pages * PAGE_BYTES) == 0;
}

static void run_race(struct tcp *t, const struct race *race, unsigned round, bool json)
{
	bool flow = race->source == flow_source;
	struct runner r[2] = {
		{{t, SOURCE_CPU, 0}, race->source},
		{{t, TARGET_CPU, 0}, race->target},
	};
	struct lane *lane = &t->lane[flow ? race->pair : 0];
	uint64_t idle[2] = {stats_get(&lane->send->stats, STAT_cycles_idle),
		stats_get(&lane->recv->stats, STAT_cycles_idle)};
	double cpu_s[2];
	pthread_t thread[2];

	t->at = lane;
	ready_target(t, race);
	t->pair = race->pair;
	t->call_bytes = race->call_bytes;
	if (flow)
		flow_prepare(t);
	for (unsigned i = 0; i < 2; i++)
		if (pthread_create(&thread[i], NULL, run_side, &r[i]) != 0)
			abort();
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(thread[i], NULL);
		cpu_s[i] = r[i].side.cpu_s;
	}
	if (flow) {
		cpu_s[0] = busy_share(lane->send, idle[0], cpu_s[0]);
		cpu_s[1] = busy_share(lane->recv, idle[1], cpu_s[1]);
		lane->pass++;
	}
	if (t->failed == 0 && !same_memory(t->b)) {
		fprintf(stderr, "godwit-bench: %s: memory differs\n", race->name);
		t->failed = EBADMSG;
	}
	if (t->failed == 0)
		report(t, race, round, cpu_s, json);
}

// As the flow's link asks for them: past the host's limit where we may, else within.
static void larger_buffers(int fd)
{
	int bytes = TCP_SOCKET_BYTES;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) != 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
}

static int tcp_open(struct tcp *t, const struct codec_ops *codec, int level, struct err *e)
{
	int rc = lane_sockets(t->plain[0]);

	if (rc == 0)
		rc = lane_sockets(t->plain[1]);
	if (rc != 0)
		return err_sys(e, -rc, "cannot make pairs of sockets over loopback");
	for (unsigned i = 0; i < 2; i++)
		larger_buffers(t->plain[1][i]);
	zero_init();
	guard_install();
	for (unsigned i = 0; i < 2 && rc == 0; i++)
		rc = lane_open(&t->lane[i], t->b, i == 1, codec, level, e);
	return rc;
}

static void tcp_close(struct tcp *t)
{
	for (unsigned i = 0; i < 2; i++) {
		lane_close(&t->lane[i]);
		close_fd(&t->plain[i][0]);
		close_fd(&t->plain[i][1]);
	}
}

int tcp_bench(struct bench *b, const struct codec_ops *codec, int level, unsigned rounds, bool json)
{
	struct tcp *t = calloc(1, sizeof(*t));
	struct err e = {0};
	int rc = t == NULL ? -ENOMEM : bench_target(b);

	if (rc == 0)
		t->b = b;
	for (unsigned i = 0; rc == 0 && i < RACES; i++) {
		t->rates[i].name = races[i].name;
		t->rates[i].heat = races[i].fresh;
		t->rates[i].bare = races[i].source == plain_source;
	}
	if (rc != 0 || tcp_open(t, codec, level, &e) != 0) {
		fprintf(stderr, "godwit-bench: %s\n", rc != 0 ? strerror(-rc) : e.text);
		return 1;
	}
	pthread_barrier_init(&t->gate, NULL, 2);
	for (unsigned round = 0; round < rounds && t->failed == 0; round++) {
		double ns = pingpong_ns(SOURCE_CPU, TARGET_CPU);

		printf(json ? "{\"stage\": \"pingpong\", \"round\": %u, \"ns\": %.0f}\n"
			    : "ping-pong          round %u: %.0f ns a round trip\n",
			round, ns);
		for (unsigned i = 0; i < RACES && t->failed == 0; i++)
			run_race(t, &races[i], round, json);
	}
	rc = t->failed != 0;
	if (rc == 0 && !json)
		rates_print(t->rates, RACES, rounds);
	if (t->failed != 0)
		fprintf(stderr, "godwit-bench: tcp: %s\n", strerror(t->failed));
	tcp_close(t);
	pthread_barrier_destroy(&t->gate);
	free(t);
	return rc;
}
