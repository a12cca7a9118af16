// SPDX-License-Identifier: BSD-3-Clause
// What the protocol promises over time. On a bottleneck that several flows share: shares that are
// equal within 20 %, and a queue that is bounded. With random loss: goodput that it hardly touches,
// and no failure below half of all lost. With silence: life and death.
//
//   sim_shape fair|ecn|loss|busy|life|all [--verbose]

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "end.h"

#define FLOWS_MOST 8u

struct shape {
	uint64_t bytes_per_s;
	uint64_t delay_ns; /* one way */
	uint64_t queue_bytes;
	uint32_t mtu, lose; /* lose in parts of 65536, there and back */
	uint64_t poll_ns, jitter_ns;
	unsigned flows;
	uint64_t apart_ns;              /* between their begins */
	uint64_t watch_ns, duration_ns; /* measured from, until; after the begin of the last one */
	uint64_t period_ns, slice_ns;   /* the cores are shared */
	uint64_t target_ns, pto_ns;     /* 0: as they are for cores that are not */
	uint64_t mark_bytes;            /* the network marks above; 0: never */
};

struct result {
	double goodput[FLOWS_MOST]; /* bytes a second */
	double sum;
	double most_queued_s, mean_queued_s; /* at the bottleneck's rate */
	double lost;
	char wrong[160];
};

static bool verbose;

static void plan(struct end_plan *p, const struct shape *s, unsigned i)
{
	memset(p, 0, sizeof(*p));
	rel_config_init(&p->cfg);
	p->cfg.token_out = 100 + i;
	p->cfg.token_in = 200 + i;
	p->cfg.mtu_most = s->mtu;
	p->cfg.overhead_bytes = 28;
	p->cfg.packets = 65536;
	p->cfg.ring_bytes = 64 << 20;
	p->passes = 1;
	p->frames = UINT64_MAX;
	p->large = true;
	p->begin_ns = i * s->apart_ns;
	p->poll_ns = s->poll_ns;
	p->period_ns = s->period_ns;
	p->slice_ns = s->slice_ns;
	p->ring = s->period_ns != 0 ? 1024 : 0;
	if (s->target_ns != 0)
		p->cfg.target_ns = p->cfg.first_rtt_ns = s->target_ns;
	if (s->pto_ns != 0)
		p->cfg.least_pto_ns = s->pto_ns;
}

static void run_until(struct net *n, uint64_t until_ns)
{
	while (n->n > 0 && n->heap[0].at_ns < until_ns && net_step(n))
		;
}

static struct result run(const struct shape *s, uint64_t seed)
{
	static struct end e[FLOWS_MOST];
	struct net_wire there = {.bytes_per_s = s->bytes_per_s,
		.delay_ns = s->delay_ns,
		.jitter_ns = s->jitter_ns,
		.queue_bytes = s->queue_bytes,
		.mark_bytes = s->mark_bytes,
		.mtu = s->mtu,
		.lose = s->lose};
	struct net_wire back = there;
	uint64_t before[FLOWS_MOST], begin;
	struct result r = {0};
	struct net net;

	net_init(&net, seed);
	there.net = back.net = &net;
	begin = net.now_ns + s->apart_ns * (s->flows - 1);
	there.watch_ns = begin + s->watch_ns;
	for (unsigned i = 0; i < s->flows; i++) {
		struct end_plan p;

		plan(&p, s, i);
		end_init(&e[i], &net, &there, &back, &p);
	}
	run_until(&net, begin + s->watch_ns);
	for (unsigned i = 0; i < s->flows; i++)
		before[i] = e[i].goodput_bytes;
	run_until(&net, begin + s->duration_ns);
	for (unsigned i = 0; i < s->flows; i++) {
		r.goodput[i] = (double)(e[i].goodput_bytes - before[i]) * 1e9 /
			       (double)(s->duration_ns - s->watch_ns);
		r.sum += r.goodput[i];
		if (e[i].wrong[0] != 0)
			memcpy(r.wrong, e[i].wrong, sizeof(r.wrong));
		if (verbose)
			printf("   flow %u: %.3f of the wire, window %llu, srtt %llu, base %llu "
			       "us, lost %llu of %llu, wrongly %llu, timeouts %llu, mtu %u\n",
				i, r.goodput[i] / (double)s->bytes_per_s,
				(unsigned long long)e[i].send.cc.window_bytes,
				(unsigned long long)e[i].send.cc.srtt_ns / 1000,
				(unsigned long long)e[i].send.cc.base_ns / 1000,
				(unsigned long long)e[i].send.c.stats.lost,
				(unsigned long long)e[i].send.c.stats.packets_out,
				(unsigned long long)e[i].send.c.stats.spurious,
				(unsigned long long)e[i].send.c.stats.timeouts, e[i].send.path.mtu);
		end_free(&e[i]);
	}
	r.most_queued_s = (double)there.most_queued / (double)s->bytes_per_s;
	r.mean_queued_s =
		(double)there.sum_queued / (double)(there.nqueued + 1) / (double)s->bytes_per_s;
	net_free(&net);
	return r;
}

static unsigned check(bool ok, const char *what, double is, double need)
{
	if (!ok || verbose)
		printf("%s: %s: %.4f, needed %.4f\n", ok ? "right" : "WRONG", what, is, need);
	return !ok;
}

static const struct shape shapes[] = {
	/* rate, delay, queue, mtu, lose, poll, jitter, flows, apart, watch, until */
	{1250000000, 20000, 4000000, 9000, 0, 0, 0, 1, 0, 100000000, 300000000},
	{1250000000, 20000, 4000000, 9000, 0, 0, 0, 2, 50000000, 200000000, 400000000},
	{1250000000, 20000, 4000000, 9000, 0, 20000, 10000, 4, 30000000, 200000000, 400000000},
	{1250000000, 500000, 4000000, 9000, 0, 0, 0, 3, 100000000, 500000000, 1000000000},
	{125000000, 1000000, 2000000, 1500, 0, 5000, 50000, 4, 200000000, 1000000000, 2500000000},
	{125000000, 50000, 2000000, 1500, 0, 5000, 0, 8, 50000000, 1000000000, 2500000000},
	{1250000000, 10000000, 16000000, 9000, 0, 0, 0, 2, 500000000, 4000000000, 7000000000},
	{1250000000, 100000, 120000, 9000, 0, 0, 0, 4, 30000000, 300000000, 600000000},
	{125000000, 50000, 2000000, 9000, 0, 0, 0, 5, 50000000, 1000000000, 2500000000},
};

static unsigned fair_one(const struct shape *s, uint64_t seed)
{
	double least_s = 4.0 * s->flows * s->mtu / (double)s->bytes_per_s;
	double mean, off = 0, most;
	unsigned bad = 0;
	struct result r;

	if (verbose)
		printf("-- shape %llu\n", (unsigned long long)seed);
	r = run(s, seed);
	mean = r.sum / s->flows;
	if (r.wrong[0] != 0) {
		printf("shape %llu: %s\n", (unsigned long long)seed, r.wrong);
		bad++;
	}
	for (unsigned k = 0; k < s->flows; k++)
		off = fmax(off, fabs(r.goodput[k] / mean - 1));
	bad += check(off <= 0.20, "a flow's distance from its share", off, 0.20);
	bad += check(r.sum >= 0.75 * (double)s->bytes_per_s, "goodput of the wire",
		r.sum / (double)s->bytes_per_s, 0.75);
	// Small windows bear three targets; a round may add as much, before it is seen.
	most = 0.004 + (double)s->delay_ns * 2e-9;
	// Where the least windows alone are more than the target, they come on top.
	if (least_s > 0.0005)
		most += least_s;
	bad += check(r.most_queued_s <= most, "queue in s", r.most_queued_s, most);
	if (verbose)
		printf("   mean queue %.1f us\n", r.mean_queued_s * 1e6);
	return bad;
}

// A network that marks before its queue grows (RFC 3168, 8257): the flows keep it short, share it,
// and fill the wire all the same.
static unsigned ecn(void)
{
	static const struct {
		uint64_t bytes_per_s, delay_ns, mark_bytes;
		uint32_t mtu;
		unsigned flows;
	} nets[] = {
		{1250000000, 20000, 90000, 1500, 2},
		{1250000000, 20000, 200000, 9000, 4},
		{3000000000, 50000, 400000, 9000, 3},
		{125000000, 100000, 60000, 1500, 4},
	};
	unsigned bad = 0;

	for (size_t i = 0; i < sizeof(nets) / sizeof(nets[0]); i++) {
		struct shape s = {.bytes_per_s = nets[i].bytes_per_s,
			.delay_ns = nets[i].delay_ns,
			.queue_bytes = 8000000,
			.mtu = nets[i].mtu,
			.flows = nets[i].flows,
			.apart_ns = 20 * NS_PER_MS,
			.watch_ns = 300 * NS_PER_MS,
			.duration_ns = 900 * NS_PER_MS,
			.mark_bytes = nets[i].mark_bytes};
		struct result r = run(&s, 100 + i);
		double marks_s = (double)s.mark_bytes / (double)s.bytes_per_s, off = 0;

		for (unsigned k = 0; k < s.flows; k++)
			off = fmax(off, fabs(r.goodput[k] * s.flows / r.sum - 1));
		if (r.wrong[0] != 0) {
			printf("marks %zu: %s\n", i, r.wrong);
			bad++;
		}
		bad += check(
			off <= 0.20, "a flow's distance from its share, with marks", off, 0.20);
		bad += check(r.sum >= 0.75 * (double)s.bytes_per_s, "goodput of a wire that marks",
			r.sum / (double)s.bytes_per_s, 0.75);
		bad += check(r.mean_queued_s <= 2 * marks_s,
			"mean queue of a wire that marks, in marks", r.mean_queued_s / marks_s, 2);
	}
	return bad;
}

#define PICK(s, ...)                                                                               \
	((const uint64_t[]){__VA_ARGS__}[seed_below(s, sizeof((uint64_t[]){__VA_ARGS__}) / 8)])

static unsigned fair(void)
{
	uint64_t nshapes = sizeof(shapes) / sizeof(shapes[0]);
	unsigned bad = 0;

	for (uint64_t i = 0; i < nshapes; i++)
		bad += fair_one(&shapes[i], i + 1);
	for (uint64_t i = 0; i < 12; i++) {
		struct seed q = {i};
		struct shape s = {.bytes_per_s = PICK(&q, 1250000000, 3000000000),
			.delay_ns = PICK(&q, 10000, 50000, 200000, 1000000),
			.mtu = 9000,
			.poll_ns = PICK(&q, 0, 0, 5000, 50000),
			.jitter_ns = PICK(&q, 0, 0, 10000, 50000),
			.lose = (uint32_t)PICK(&q, 0, 0, 655),
			.flows = 2 + (unsigned)seed_below(&q, 4),
			.apart_ns = NS_PER_MS + seed_below(&q, 100 * NS_PER_MS)};
		uint64_t round_ns = 2 * s.delay_ns + NS_PER_MS;

		s.queue_bytes = s.bytes_per_s / 1000 * (4 + seed_below(&q, 8));
		s.watch_ns = 100 * NS_PER_MS + 300 * round_ns;
		s.duration_ns = s.watch_ns + 200 * round_ns;
		bad += fair_one(&s, nshapes + i + 1);
	}
	return bad;
}

// What random loss costs, and that no loss below a half ends a flow.
static unsigned loss(void)
{
	static const struct {
		uint64_t bytes_per_s, delay_ns;
		uint32_t mtu;
	} paths[] = {
		{1250000000, 20000, 9000},
		{1250000000, 500000, 9000},
		{125000000, 5000000, 1500},
	};
	static const struct {
		uint32_t parts;
		double need;
	} losses[] = {{655, 0.85}, {6554, 0.50}, {13107, 0}, {29491, 0}};
	unsigned bad = 0;

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		struct shape s = {.bytes_per_s = paths[i].bytes_per_s,
			.delay_ns = paths[i].delay_ns,
			.queue_bytes = 4000000,
			.mtu = paths[i].mtu,
			.flows = 1,
			.watch_ns = 300 * NS_PER_MS,
			.duration_ns = 900 * NS_PER_MS};
		double whole = run(&s, i + 1).sum;

		for (size_t k = 0; k < sizeof(losses) / sizeof(losses[0]); k++) {
			struct result r;

			s.lose = losses[k].parts;
			r = run(&s, i + 1);
			if (r.wrong[0] != 0) {
				printf("path %zu, loss %.2f: %s\n", i, s.lose / 65536.0, r.wrong);
				bad++;
			}
			bad += check(r.sum > 0 && r.sum >= losses[k].need * whole,
				"goodput with loss, of that without", r.sum / whole,
				losses[k].need);
		}
	}
	return bad;
}

// Cores that others share: each gets a slice now and then. What a flow moves is what two slices and
// the device's ring let through, whatever the round trips look like, and nobody is called dead.
static unsigned busy(void)
{
	static const struct {
		uint64_t period_ns, slice_ns;
		uint32_t mtu;
		double need; // of the ring of packets, each period
	} loads[] = {
		{10 * NS_PER_MS, 3 * NS_PER_MS, 1500, 0.3},
		{35 * NS_PER_MS, 3 * NS_PER_MS, 1500, 0.3},
		{35 * NS_PER_MS, 3 * NS_PER_MS, 9000, 0.25},
		{120 * NS_PER_MS, 3 * NS_PER_MS, 1500, 0.3},
	};
	unsigned bad = 0;

	for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
		struct shape s = {.bytes_per_s = 3000000000,
			.delay_ns = 5000,
			.queue_bytes = 20000000,
			.mtu = loads[i].mtu,
			.flows = 1,
			.watch_ns = 3 * NS_PER_S,
			.duration_ns = 8 * NS_PER_S,
			.period_ns = loads[i].period_ns,
			.slice_ns = loads[i].slice_ns,
			.target_ns = 10 * NS_PER_MS,
			.pto_ns = 20 * NS_PER_MS};
		struct result r = run(&s, i + 1);
		double full = 1024.0 * s.mtu * (double)NS_PER_S / (double)s.period_ns;

		if (r.wrong[0] != 0) {
			printf("load %zu: %s\n", i, r.wrong);
			bad++;
		}
		bad += check(r.sum >= loads[i].need * full,
			"goodput on shared cores, of a ring a period", r.sum / full, loads[i].need);
	}
	return bad;
}

// Silence: an idle flow lives, a wire that is cut for a while ends nothing, nor do cores that are
// stopped for longer than a peer may be silent; a dead peer is noticed in time.
static unsigned life(void)
{
	static const struct {
		const char *what;
		uint64_t frames, black_ns, run_ns;
		bool dies;
		uint64_t period_ns; /* of it the cores run a tenth */
	} lives[] = {
		{"an idle flow", 0, 0, 100 * NS_PER_S, false, 0},
		{"a wire cut for 5 s", UINT64_MAX, 5 * NS_PER_S, 8 * NS_PER_S, false, 0},
		{"a wire cut for good", UINT64_MAX, 1000 * NS_PER_S, 40 * NS_PER_S, true, 0},
		{"a wire cut for good, idle", 0, 1000 * NS_PER_S, 40 * NS_PER_S, true, 0},
		{"cores stopped for 45 s", UINT64_MAX, 0, 300 * NS_PER_S, false, 50 * NS_PER_S},
	};
	unsigned bad = 0;

	for (size_t i = 0; i < sizeof(lives) / sizeof(lives[0]); i++) {
		struct shape s = {.mtu = 9000};
		struct net_wire there = {.bytes_per_s = 125000000,
			.delay_ns = 50000,
			.queue_bytes = 1000000,
			.mtu = 9000};
		uint64_t goodput, dead_s = 0;
		struct net_wire back;
		struct end_plan p;
		struct net net;
		struct end e;

		net_init(&net, 1);
		there.net = &net;
		if (lives[i].black_ns != 0)
			there.black[0] = (struct net_span){net.now_ns + 100 * NS_PER_MS,
				net.now_ns + 100 * NS_PER_MS + lives[i].black_ns, 0};
		back = there;
		s.period_ns = lives[i].period_ns;
		s.slice_ns = s.period_ns / 10;
		plan(&p, &s, 0);
		p.frames = lives[i].frames;
		p.idle = p.frames == 0;
		end_init(&e, &net, &there, &back, &p);
		run_until(&net, net.now_ns + 5 * NS_PER_S);
		goodput = e.goodput_bytes;
		while (net.now_ns < lives[i].run_ns && dead_s == 0 && net_step(&net))
			if (e.send.c.error != 0 && e.recv.c.error != 0)
				dead_s = net.now_ns / NS_PER_S;
		// It was cut at 1.1 s; silence of 30 s means death.
		bad += check(lives[i].dies ? dead_s >= 30 && dead_s <= 32 : dead_s == 0,
			lives[i].what, (double)dead_s, lives[i].dies ? 31 : 0);
		if (lives[i].frames != 0 && !lives[i].dies)
			bad += check(e.goodput_bytes > goodput, "it goes on after the cut",
				(double)(e.goodput_bytes - goodput), 1);
		end_free(&e);
		net_free(&net);
	}
	return bad;
}

int main(int argc, char **argv)
{
	unsigned bad = 0;

	verbose = argc > 2;
	if (argc < 2 || strcmp(argv[1], "fair") == 0 || strcmp(argv[1], "all") == 0)
		bad += fair();
	if (argc < 2 || strcmp(argv[1], "ecn") == 0 || strcmp(argv[1], "all") == 0)
		bad += ecn();
	if (argc < 2 || strcmp(argv[1], "loss") == 0 || strcmp(argv[1], "all") == 0)
		bad += loss();
	if (argc < 2 || strcmp(argv[1], "busy") == 0 || strcmp(argv[1], "all") == 0)
		bad += busy();
	if (argc < 2 || strcmp(argv[1], "life") == 0 || strcmp(argv[1], "all") == 0)
		bad += life();
	printf("%u wrong\n", bad);
	return bad != 0;
}
