// SPDX-License-Identifier: BSD-3-Clause
// What the protocol promises over time. On a bottleneck that several flows share: shares that are
// equal within 20 %, and a queue that is bounded. With random loss: goodput that it hardly touches,
// and no failure below half of all lost. What it promises when nobody is there is in sim_life.c.
//
//   sim_shape fair|fair-more|ecn|loss|busy|life|all [--verbose]

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "shape.h"

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

	if (shape_verbose)
		printf("-- shape %llu\n", (unsigned long long)seed);
	r = shape_run(s, seed);
	mean = r.sum / s->flows;
	if (r.wrong[0] != 0) {
		printf("shape %llu: %s\n", (unsigned long long)seed, r.wrong);
		bad++;
	}
	for (unsigned k = 0; k < s->flows; k++)
		off = fmax(off, fabs(r.goodput[k] / mean - 1));
	bad += shape_check(off <= 0.20, "a flow's distance from its share", off, 0.20);
	bad += shape_check(r.sum >= 0.75 * (double)s->bytes_per_s, "goodput of the wire",
		r.sum / (double)s->bytes_per_s, 0.75);
	// Small windows bear three targets; a round may add as much, before it is seen.
	most = 0.004 + (double)s->delay_ns * 2e-9;
	// Where the least windows alone are more than the target, they come on top.
	if (least_s > 0.0005)
		most += least_s;
	bad += shape_check(r.most_queued_s <= most, "queue in s", r.most_queued_s, most);
	if (shape_verbose)
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
		struct result r = shape_run(&s, 100 + i);
		double marks_s = (double)s.mark_bytes / (double)s.bytes_per_s, off = 0;

		for (unsigned k = 0; k < s.flows; k++)
			off = fmax(off, fabs(r.goodput[k] * s.flows / r.sum - 1));
		if (r.wrong[0] != 0) {
			printf("marks %zu: %s\n", i, r.wrong);
			bad++;
		}
		bad += shape_check(
			off <= 0.20, "a flow's distance from its share, with marks", off, 0.20);
		bad += shape_check(r.sum >= 0.75 * (double)s.bytes_per_s,
			"goodput of a wire that marks", r.sum / (double)s.bytes_per_s, 0.75);
		bad += shape_check(r.mean_queued_s <= 2 * marks_s,
			"mean queue of a wire that marks, in marks", r.mean_queued_s / marks_s, 2);
	}
	return bad;
}

#define FAIR_SEEDS 4 // the others take as long as all the rest

#define PICK(s, ...)                                                                               \
	((const uint64_t[]){__VA_ARGS__}[seed_below(s, sizeof((uint64_t[]){__VA_ARGS__}) / 8)])

// Shapes of seeds.
static unsigned fair_seeds(uint64_t first, uint64_t end)
{
	uint64_t nshapes = sizeof(shapes) / sizeof(shapes[0]);
	unsigned bad = 0;

	for (uint64_t i = first; i < end; i++) {
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

static unsigned fair(void)
{
	unsigned bad = fair_seeds(0, FAIR_SEEDS);

	for (uint64_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		bad += fair_one(&shapes[i], i + 1);
	return bad;
}

static unsigned fair_more(void)
{
	return fair_seeds(FAIR_SEEDS, 12);
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
		double whole = shape_run(&s, i + 1).sum;

		for (size_t k = 0; k < sizeof(losses) / sizeof(losses[0]); k++) {
			struct result r;

			s.lose = losses[k].parts;
			r = shape_run(&s, i + 1);
			if (r.wrong[0] != 0) {
				printf("path %zu, loss %.2f: %s\n", i, s.lose / 65536.0, r.wrong);
				bad++;
			}
			bad += shape_check(r.sum > 0 && r.sum >= losses[k].need * whole,
				"goodput with loss, of that without", r.sum / whole,
				losses[k].need);
		}
	}
	return bad;
}

static const struct {
	const char *name;
	unsigned (*run)(void);
} kinds[] = {{"fair", fair}, {"fair-more", fair_more}, {"ecn", ecn}, {"loss", loss},
	{"busy", sim_busy}, {"life", sim_life}};

int main(int argc, char **argv)
{
	bool all = argc < 2 || strcmp(argv[1], "all") == 0;
	unsigned bad = 0;

	shape_verbose = argc > 2;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (all || strcmp(argv[1], kinds[i].name) == 0)
			bad += kinds[i].run();
	printf("%u wrong\n", bad);
	return bad != 0;
}
