// SPDX-License-Identifier: BSD-3-Clause
// Many seeds, each another network with another flow: whatever the wire does, every frame's bytes
// arrive right, once, and the sums of each pass agree.
//
//   sim_random [--seeds N] [--seed N] [--plant NAME]
//
// --seed N plays one seed again. --plant breaks the protocol on purpose (base/plant.h, in a test
// build only) and succeeds when a seed notices.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "end.h"
#include "plant.h"

#define EVENTS_MOST UINT64_C(3000000)

static uint64_t pick(struct seed *s, const uint64_t *values, size_t n)
{
	return values[seed_below(s, n)];
}
#define PICK(s, ...) pick(s, (const uint64_t[]){__VA_ARGS__}, sizeof((uint64_t[]){__VA_ARGS__}) / 8)

static void random_spans(struct net *n, struct net_span *spans, uint64_t longest_ns, uint64_t most)
{
	for (unsigned i = 0; i < seed_below(&n->seed, 3); i++) {
		spans[i].from_ns = n->now_ns + seed_below(&n->seed, 300 * NS_PER_MS);
		spans[i].until_ns = spans[i].from_ns + seed_below(&n->seed, longest_ns);
		spans[i].value = seed_below(&n->seed, most);
	}
}

// Each evil has its own chance to be there, so that most seeds mix some.
static void random_wire(struct net *n, struct net_wire *w)
{
	struct seed *s = &n->seed;

	memset(w, 0, sizeof(*w));
	w->net = n;
	w->bytes_per_s = PICK(s, 2500000, 12500000, 125000000, 1250000000, 5000000000);
	w->delay_ns = PICK(s, 5000, 50000, 500000, 5000000, 40000000);
	w->queue_bytes = PICK(s, 60000, 300000, 2000000, 16000000);
	w->jitter_ns = PICK(s, 0, 0, 10000, 300000);
	w->mtu = (uint32_t)PICK(s, 1280, 1400, 1500, 4000, 9000, 9000);
	w->lose = (uint32_t)PICK(s, 0, 0, 655, 6553, 20000);
	w->duplicate = (uint32_t)PICK(s, 0, 0, 655, 6553);
	w->corrupt = (uint32_t)PICK(s, 0, 0, 655, 3000);
	w->replay = (uint32_t)PICK(s, 0, 0, 655);
	w->forge = (uint32_t)PICK(s, 0, 0, 2000);
	w->overtake = (uint32_t)PICK(s, 0, 0, 655, 10000);
	w->overtake_ns = PICK(s, 20000, 500000, 5000000);
	if (seed_below(s, 4) == 0) {
		w->burst_begin = 100;
		w->burst_end = (uint32_t)PICK(s, 3000, 10000, 30000);
	}
	if (seed_below(s, 4) == 0)
		w->mark_bytes = w->queue_bytes / 4;
	if (seed_below(s, 4) == 0)
		random_spans(n, w->black, 5 * NS_PER_S, 1);
	if (seed_below(s, 4) == 0)
		random_spans(n, w->slow, NS_PER_S, 100 * NS_PER_MS);
	if (seed_below(s, 4) == 0) {
		random_spans(n, w->narrow, NS_PER_S, 1);
		for (unsigned i = 0; i < NET_SPANS; i++)
			w->narrow[i].value = PICK(s, 1280, 1400, 2000);
	}
}

static void random_plan(struct net *n, struct end_plan *p)
{
	struct seed *s = &n->seed;
	struct rel_config *g = &p->cfg;

	memset(p, 0, sizeof(*p));
	rel_config_init(g);
	g->token_out = seed_next(s);
	g->token_in = seed_next(s);
	g->frames = (uint32_t)PICK(s, 64, 128, 512, 4096);
	g->packets = 4096;
	g->ring_bytes = PICK(s, 1 << 19, 1 << 20, 3 << 20);
	g->mtu_most = (uint32_t)PICK(s, 1500, 9000, 9000);
	g->overhead_bytes = (uint32_t)PICK(s, 28, 48);
	g->page_parts = seed_below(s, 2) == 0;
	g->first_number = PICK(s, 0, 1, 4095, UINT64_C(0xfffffff0), UINT64_C(1) << 60);
	g->ack_packets = (uint32_t)PICK(s, 1, 8, 32, 64);
	g->ack_delay_ns = PICK(s, 10000, 100000, 1000000);
	g->dead_ns = 60 * NS_PER_S;
	g->bye_ns = 10 * NS_PER_S; // longer than any blackout
	g->barrier_ns = PICK(s, 0, 0, 0, 30000000);
	p->passes = 1 + (unsigned)seed_below(s, 3);
	p->frames = 1 + seed_below(s, seed_below(s, 4) == 0 ? 300 : 30);
	p->place_ns = PICK(s, 0, 0, 20000, 300000);
	p->tear = (uint32_t)PICK(s, 0, 0, 655, 32768);
	p->drop = (uint32_t)PICK(s, 0, 0, 0, 655);
	p->poll_ns = PICK(s, 0, 1000, 50000, 2000000);
}

// 0: all was right.
static int play(uint64_t seed, bool say)
{
	struct net_wire there, back;
	struct end_plan plan;
	struct net net;
	struct end e;
	int bad;

	net_init(&net, seed);
	random_wire(&net, &there);
	random_wire(&net, &back);
	random_plan(&net, &plan);
	end_init(&e, &net, &there, &back, &plan);
	while (!end_over(&e) && net.done < EVENTS_MOST && net_step(&net))
		;
	if (e.wrong[0] == 0 && !end_over(&e))
		snprintf(e.wrong, sizeof(e.wrong),
			"it does not end: pass %u of %u, frame %llu of %llu", e.pass, plan.passes,
			(unsigned long long)e.send.settled, (unsigned long long)e.send.next);
	bad = e.wrong[0] != 0;
	if (say || bad)
		printf("seed %llu: %s; %.3f s, %llu events, %llu packets, %llu lost, %llu wrongly, "
		       "%llu timeouts, %llu bad, mtu %u of %u\n",
			(unsigned long long)seed, bad ? e.wrong : "right",
			(double)(net.now_ns - e.began_ns) / 1e9, (unsigned long long)net.done,
			(unsigned long long)e.send.c.stats.packets_out,
			(unsigned long long)e.send.c.stats.lost,
			(unsigned long long)e.send.c.stats.spurious,
			(unsigned long long)e.send.c.stats.timeouts,
			(unsigned long long)e.recv.c.stats.bad, e.send.path.mtu, there.mtu);
	end_free(&e);
	net_free(&net);
	return bad;
}

static const struct {
	const char *name;
	enum plant plant;
} plants[] = {
	{"reuse-number", PLANT_NIC_REUSE_NUMBER},
	{"take-corrupt", PLANT_NIC_TAKE_CORRUPT},
	{"forget-lost", PLANT_NIC_FORGET_LOST},
	{"no-credit", PLANT_NIC_NO_CREDIT},
	{"barrier-early", PLANT_NIC_BARRIER_EARLY},
};

// False: this build has no planted bugs.
static bool set_plant(enum plant which)
{
#ifdef GODWIT_PLANT
	plant_active = which;
	return true;
#else
	(void)which;
	return false;
#endif
}

static int play_planted(const char *name, uint64_t seeds)
{
	enum plant which = PLANT_NONE;

	for (size_t i = 0; i < sizeof(plants) / sizeof(plants[0]); i++)
		if (strcmp(plants[i].name, name) == 0)
			which = plants[i].plant;
	if (which == PLANT_NONE || !set_plant(which)) {
		printf("%s: no such planted bug in this build\n", name);
		return 2;
	}
	for (uint64_t seed = 1; seed <= seeds; seed++)
		if (play(seed, false) != 0) {
			printf("%s was noticed, as it should be\n", name);
			set_plant(PLANT_NONE);
			return play(seed, true); // only with the bug
		}
	printf("%s was not noticed by %llu seeds\n", name, (unsigned long long)seeds);
	return 1;
}

int main(int argc, char **argv)
{
	uint64_t seeds = 1000, one = 0;
	const char *planted = NULL;
	unsigned bad = 0;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--seeds") == 0)
			seeds = strtoull(argv[i + 1], NULL, 10);
		if (strcmp(argv[i], "--seed") == 0)
			one = strtoull(argv[i + 1], NULL, 10);
		if (strcmp(argv[i], "--plant") == 0)
			planted = argv[i + 1];
	}
	if (planted != NULL)
		return play_planted(planted, seeds);
	if (one != 0)
		return play(one, true);
	for (uint64_t seed = 1; seed <= seeds && bad < 10; seed++)
		bad += (unsigned)play(seed, false);
	printf("%llu seeds, %u wrong; play one again with --seed N\n", (unsigned long long)seeds,
		bad);
	return bad != 0;
}
