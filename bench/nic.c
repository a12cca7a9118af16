// SPDX-License-Identifier: BSD-3-Clause
// godwit-bench nic: the raw path over net_memif, or two devices, one source core and one target
// core; beside it a bare loop over the same ports, which attaches the same pages to packets, sums
// them on both sides, and copies them to memory over there (nic_bare.c). All memory is populated.
// The source runs on CPU 0, the target on CPU 1. A flow runs again with 1 % and 10 % of all
// datagrams lost at random, both ways; another flow over the same ports is sealed.

#include "nic.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_lcore.h>

#include "nic_bare.h"

#include "guard.h"
#include "lane.h"
#include "lcore.h"
#include "link_nic_impl.h"
#include "memory.h"
#include "pingpong.h"
#include "rates.h"
#include "zero.h"

#define RACES 5u

struct nic {
	struct bench *b;
	const struct options *o;
	pthread_barrier_t gate;
	_Atomic int failed;
	_Atomic bool done;
	uint64_t ns; // of this round, by the source

	struct port *port[2]; // source, target
	struct send_job send_job;
	struct dirty dirty;
	struct claim claim;
	struct nic_lane {
		struct recv_job recv_job;
		struct flow *flow[2];
		uint32_t pass;
	} lane[2];    // plain, sealed
	char dir[32]; // of memif's socket, which the driver removes
	struct rates rates[RACES];
};

struct race {
	const char *name;
	bool bare, sealed;
	uint32_t lose; // parts of 65536
};

static const struct race races[RACES] = {
	{"nic/bare", true, false, 0},
	{"nic/flow", false, false, 0},
	{"nic/sealed", false, true, 0},
	{"nic/flow-loss-1", false, false, 655},
	{"nic/flow-loss-10", false, false, 6554},
};

struct runner {
	struct nic *nic;
	const struct race *race;
	unsigned side;
};

// What a lcore does: the queue, then the flow.
static void flow_run(struct nic *t, struct nic_lane *l, unsigned side)
{
	struct flow *f = l->flow[side];
	struct port_queue *q = t->port[side]->queue[0];

	if (side == 0)
		atomic_store(&f->run_pass, l->pass);
	// The target answers as long as the source asks.
	while (side == 0 ? atomic_load(&f->done_pass) != l->pass : !atomic_load(&t->done)) {
		bool moved = port_turn(q);

		moved |= flow_poll(f);
		if (moved)
			continue;
		if (atomic_load(&f->error) != 0) {
			fprintf(stderr, "godwit-bench: %s\n", f->why.text);
			t->failed = EIO;
		}
		if (t->failed != 0)
			return;
		cpu_pause();
	}
}

static void *run_side(void *arg)
{
	struct runner *r = arg;
	struct nic *t = r->nic;
	struct nic_bare bare = {
		.q = t->port[r->side]->queue[0],
		.memory = r->side == 0 ? t->b->image : t->b->target,
		.bytes = t->b->pages * PAGE_BYTES,
		.failed = &t->failed,
	};
	uint64_t t0;

	// DPDK's pools keep a cache for each thread that they know.
	if (pin((int)r->side) != 0 || rte_thread_register() != 0)
		t->failed = EINVAL;
	pthread_barrier_wait(&t->gate);
	t0 = clock_ns();
	if (t->failed == 0 && r->race->bare && r->side == 0)
		nic_bare_source(&bare, &t->done);
	else if (t->failed == 0 && r->race->bare)
		nic_bare_target(&bare, &t->done);
	else if (t->failed == 0)
		flow_run(t, &t->lane[r->race->sealed], r->side);
	if (r->side == 0) {
		t->ns = clock_ns() - t0;
		if (!r->race->bare || t->failed != 0)
			atomic_store(&t->done, true);
	}
	rte_thread_unregister();
	return NULL;
}

static double a_page(
	const struct nic *t, const struct flow *f, enum stats_id id, const uint64_t *before)
{
	return (double)(stats_get(&f->stats, id) - before[id]) / (double)t->b->pages;
}

static void report_stages(
	struct nic *t, const struct race *race, unsigned round, uint64_t before[2][STATS])
{
	static const struct {
		const char *name;
		unsigned side;
		enum stats_id id;
	} stages[] = {{"claim", 0, STAT_cycles_claim}, {"scan", 0, STAT_cycles_scan},
		{"pack", 0, STAT_cycles_encode}, {"send", 0, STAT_cycles_send},
		{"source idle", 0, STAT_cycles_idle}, {"receive", 1, STAT_cycles_recv},
		{"check", 1, STAT_cycles_decode}, {"place", 1, STAT_cycles_place},
		{"target idle", 1, STAT_cycles_idle}};

	if (!t->o->json)
		printf("                   cycles a page:");
	for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
		const struct flow *f = t->lane[race->sealed].flow[stages[i].side];
		double cycles = a_page(t, f, stages[i].id, before[stages[i].side]);

		if (t->o->json)
			printf("{\"stage\": \"nic/%scycles/%s\", \"round\": %u, "
			       "\"mib\": %llu, \"cycles_a_page\": %.1f}\n",
				race->sealed ? "sealed-" : "", stages[i].name, round,
				(unsigned long long)(t->b->pages * PAGE_BYTES >> 20), cycles);
		else
			printf(" %s %.1f;", stages[i].name, cycles);
	}
	if (!t->o->json)
		printf("\n");
}

static void report(struct nic *t, const struct race *race, unsigned round)
{
	double gib = (double)t->b->pages * PAGE_BYTES / (1 << 30) / ((double)t->ns / 1e9);
	struct link_nic_info i;
	struct port_info port;

	link_nic_info(t->lane[race->sealed].flow[0]->link, &i);
	port_info(t->port[0], &port);
	if (t->o->json)
		printf("{\"stage\": \"%s\", \"round\": %u, \"content\": \"%s\", \"mib\": %llu, "
		       "\"device\": \"%s\", \"mtu\": %u, \"gib_per_s\": %.3f, \"rtt_us\": %.0f, "
		       "\"lost\": %llu}\n",
			race->name, round, bench_content(t->b),
			(unsigned long long)(t->b->pages * PAGE_BYTES >> 20), port.driver, port.mtu,
			gib, (double)i.rtt_ns / 1e3, (unsigned long long)i.lost);
	else
		printf("%-18s round %u, %s: %.2f GiB/s; round trip %.0f us, lost so far %llu\n",
			race->name, round, bench_content(t->b), gib, (double)i.rtt_ns / 1e3,
			(unsigned long long)i.lost);
	fflush(stdout);
	t->rates[race - races].gib_per_s[round - 1] = gib;
}

static void run_race(struct nic *t, const struct race *race, unsigned round)
{
	struct runner r[2] = {{t, race, 0}, {t, race, 1}};
	struct nic_lane *l = &t->lane[race->sealed];
	uint64_t before[2][STATS];
	pthread_t thread[2];

	memset(t->b->target, race->bare ? 0xa5 : 0, t->b->pages * PAGE_BYTES);
	memset(l->recv_job.written, 0xff, t->b->target_map.nchunks * sizeof(*l->recv_job.written));
	atomic_store(&t->done, false);
	for (unsigned i = 0; i < 2; i++) {
		((struct link_nic *)l->flow[i]->link)->faults.lose = race->lose;
		for (unsigned k = 0; k < STATS; k++)
			before[i][k] = stats_get(&l->flow[i]->stats, k);
	}
	if (!race->bare && lane_publish(&t->b->map, &t->dirty, &t->claim, ALL_PAGES, l->pass) == 0)
		t->failed = ENOSPC;
	for (unsigned i = 0; i < 2; i++)
		if (pthread_create(&thread[i], NULL, run_side, &r[i]) != 0)
			abort();
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	l->pass += !race->bare;
	if (t->failed == 0 && memcmp(t->b->image, t->b->target, t->b->pages * PAGE_BYTES) != 0) {
		fprintf(stderr, "godwit-bench: %s: memory differs\n", race->name);
		t->failed = EBADMSG;
	}
	if (t->failed != 0 || round == 0)
		return;
	report(t, race, round);
	if (!race->bare && race->lose == 0)
		report_stages(t, race, round, before);
}

static bool given(const struct nic *t)
{
	return t->o->nwords > 0;
}

static int open_side(struct nic *t, unsigned side, struct err *e)
{
	char memif[160];
	struct port_config c = {.name = side == 0 ? "source" : "target",
		.device = given(t) ? t->o->words[side] : memif,
		.queues = 1,
		.mtu = t->o->mtu,
		.ipv4 = side == 0 ? "192.0.2.1/24" : "192.0.2.2/24"};

	// A buffer holds a packet with its Ethernet header.
	snprintf(memif, sizeof(memif),
		"net_memif%u,role=%s,id=0,socket=%s/memif,socket-abstract=no,bsize=%u", side,
		side == 0 ? "client" : "server", t->dir, (c.mtu + 18 + 255) / 256 * 256);
	return port_open(&t->port[side], &c, e);
}

static int seal(struct link *l, unsigned side, struct err *e)
{
	struct seal_secret secret[2] = {{.key = {1}}, {.key = {2}}};
	const struct seal_ops *ops = seal_best("aes-256-gcm");

	if (ops == NULL)
		return err_set(e, ENOTSUP, "this CPU can't seal");
	return l->ops->seal(l, ops, &secret[side], &secret[!side], -1, e);
}

static int open_flow(struct nic *t, unsigned lane, unsigned side, uint16_t udp[2], struct err *e)
{
	struct flow **f = &t->lane[lane].flow[side];
	struct link_nic_config c = {.port = t->port[side],
		.source = side == 0,
		.udp_port = udp[side],
		.token_in = 2 * lane + side,
		.token_out = 2 * lane + !side,
		.mtu_most = t->o->mtu,
		.faults = {.seed = side + 1}};
	struct link *l;
	int rc;

	port_address_parse(&c.peer, side == 0 ? "192.0.2.2" : "192.0.2.1", udp[!side]);
	rc = link_nic_open(&l, &c, e);
	if (rc == 0 && lane == 1)
		rc = seal(l, side, e);
	if (rc < 0)
		return rc;
	return side == 0 ? flow_send_new(f, &t->send_job, l, 1, -1, e)
			 : flow_recv_new(f, &t->lane[lane].recv_job, l, 2, -1, e);
}

static int start(const struct nic *t, struct err *e)
{
	const char *pci[3] = {NULL};
	const struct eal_config eal = {.cores = "0,1", .mem_mb = 192, .pci = pci};
	struct eal_info info;
	unsigned function;

	for (int i = 0, n = 0; i < t->o->nwords; i++)
		if (sscanf(t->o->words[i], "%*x:%*x:%*x.%x", &function) == 1)
			pci[n++] = t->o->words[i];
	return eal_start(&eal, &info, e);
}

static int nic_open(struct nic *t, struct err *e)
{
	uint16_t udp[2];
	int rc = 0;

	strcpy(t->dir, "/tmp/godwit-bench-XXXXXX");
	if (mkdtemp(t->dir) == NULL || dirty_init(&t->dirty, t->b->map.nchunks) < 0 ||
		claim_init(&t->claim, 1) < 0)
		return err_set(e, ENOMEM, "no memory, or no folder for a socket");
	zero_init();
	guard_install();
	t->send_job = (struct send_job){.map = &t->b->map,
		.dirty = &t->dirty,
		.claim = &t->claim,
		.codec = t->o->codec,
		.level = t->o->level};
	for (unsigned i = 0; rc == 0 && i < 2; i++) {
		rc = recv_job_init(&t->lane[i].recv_job, &t->b->target_map, false, e);
		t->lane[i].recv_job.alone = true;
	}
	for (unsigned i = 2; rc == 0 && i-- > 0;) // the server first
		rc = open_side(t, i, e);
	for (unsigned lane = 0; lane < 2; lane++) {
		for (unsigned i = 0; rc == 0 && i < 2; i++)
			udp[i] = port_udp_take(t->port[i], 0, NULL);
		for (unsigned i = 0; rc == 0 && i < 2; i++)
			rc = open_flow(t, lane, i, udp, e);
	}
	if (rc == 0)
		sleep(1); // both sides find each other
	return rc;
}

static void nic_close(struct nic *t)
{
	for (unsigned i = 0; i < 2; i++) {
		flow_free(t->lane[0].flow[i]);
		flow_free(t->lane[1].flow[i]);
	}
	// memif frees what is left of the other side in a thread of its own, and not safely while
	// anybody else frees.
	port_close(t->port[0]);
	sleep(1);
	port_close(t->port[1]);
	rmdir(t->dir);
	for (unsigned i = 0; i < 2; i++)
		recv_job_fini(&t->lane[i].recv_job);
	claim_fini(&t->claim);
	dirty_fini(&t->dirty);
	eal_stop();
}

static void run_rounds(struct nic *t)
{
	// Round 0 is not told: the flows find their windows and the path's MTU.
	run_race(t, &races[1], 0);
	run_race(t, &races[2], 0);
	for (unsigned round = 1; round <= t->o->rounds && t->failed == 0; round++) {
		double ns = pingpong_ns(0, 1);

		printf(t->o->json ? "{\"stage\": \"pingpong\", \"round\": %u, \"ns\": %.0f}\n"
				  : "ping-pong          round %u: %.0f ns a round trip\n",
			round, ns);
		for (unsigned i = given(t); i < RACES && t->failed == 0; i++)
			run_race(t, &races[i], round);
	}
	if (t->failed != 0)
		fprintf(stderr, "godwit-bench: nic: %s\n", strerror(t->failed));
	else if (!t->o->json)
		rates_print(t->rates + given(t), RACES - given(t), t->o->rounds);
}

int nic_bench(struct bench *b, const struct options *o)
{
	struct nic *t = calloc(1, sizeof(*t));
	struct err e = {0};
	int rc = t == NULL ? -ENOMEM : bench_target(b);

	if (rc != 0)
		err_sys(&e, -rc, "no memory");
	if (rc == 0) {
		t->b = b;
		t->o = o;
		for (unsigned i = 0; i < RACES; i++) {
			t->rates[i].name = races[i].name;
			t->rates[i].bare = races[i].bare;
		}
		rc = start(t, &e);
	}
	if (rc == 0) {
		rc = nic_open(t, &e);
		pthread_barrier_init(&t->gate, NULL, 2);
		if (rc == 0)
			run_rounds(t);
		nic_close(t);
		pthread_barrier_destroy(&t->gate);
	}
	if (rc != 0)
		fprintf(stderr, "godwit-bench: %s\n", e.text);
	rc = rc != 0 || t->failed != 0;
	free(t);
	return rc;
}
