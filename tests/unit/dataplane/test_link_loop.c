// SPDX-License-Identifier: BSD-3-Clause
// The loop link keeps its own contract whatever it does to frames: each is reported once, a barrier
// comes after all of its pass, nothing is reported lost on a wire that loses nothing.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "link.h"
#include "seed.h"

#define FRAMES 200u // of a pass
#define PASSES 5u

struct counts {
	unsigned placed, torn, lost, barriers;
	unsigned came, twice, stale;
};

static void answer(struct link *b, uint8_t type, const struct frame *f)
{
	const struct frame a = {.type = type, .seq = f->seq, .pass = f->pass};

	assert_true(b->ops->answer(b, &a));
}

static void receive(struct link *b, uint32_t *pass, bool seen[FRAMES], struct counts *n)
{
	struct link_rx x;

	b->ops->poll(b);
	while (b->ops->rx(b, &x, 1) == 1) {
		if (x.hdr.type == FRAME_BARRIER) {
			assert_int_equal(x.hdr.pass, *pass);
			answer(b, FRAME_BARRIER_ACK, &x.hdr);
			memset(seen, 0, FRAMES * sizeof(*seen));
			++*pass;
			continue;
		}
		assert_true(x.hdr.pass <= *pass);
		n->stale += x.hdr.pass < *pass;
		if (x.hdr.pass < *pass)
			continue;
		n->came++;
		n->twice += seen[x.hdr.chunk];
		seen[x.hdr.chunk] = true;
		answer(b, x.hdr.chunk % 7 == 0 ? FRAME_TORN : FRAME_ACK, &x.hdr);
	}
}

static void collect(struct link *a, bool told[FRAMES], struct counts *n)
{
	struct link_done d;

	a->ops->poll(a);
	while (a->ops->done(a, &d, 1) == 1) {
		if (d.status == LINK_BARRIER) {
			n->barriers++;
			for (unsigned i = 0; i < FRAMES; i++)
				assert_true(told[i]);
			memset(told, 0, FRAMES * sizeof(*told));
			continue;
		}
		assert_false(told[d.hdr.chunk]);
		told[d.hdr.chunk] = true;
		n->placed += d.status == LINK_PLACED;
		n->torn += d.status == LINK_TORN;
		n->lost += d.status == LINK_LOST;
	}
}

static struct counts run(const struct link_loop_faults *f)
{
	bool seen[FRAMES] = {0}, told[FRAMES] = {0};
	struct counts n = {0};
	uint32_t pass = 0;
	struct link *a, *b;

	assert_int_equal(link_loop_pair(&a, &b, f, NULL), 0);
	for (unsigned p = 0; p < PASSES; p++) {
		for (unsigned i = 0; i <= FRAMES; i++) {
			struct link_tx t = {
				.hdr = {.type = FRAME_ZERO, .pass = p, .chunk = i, .chunks = 1}};
			struct link_tx barrier = {.hdr = {.type = FRAME_BARRIER, .pass = p}};

			assert_int_equal(a->ops->tx(a, i < FRAMES ? &t : &barrier, 1), 1);
		}
		for (unsigned turns = 0; n.barriers == p; turns++) {
			assert_true(turns < 100000);
			receive(b, &pass, seen, &n);
			collect(a, told, &n);
		}
	}
	assert_int_equal(n.placed + n.torn + n.lost, PASSES * FRAMES);
	assert_int_equal(a->sent, a->next_seq);
	a->ops->close(a);
	assert_int_equal(b->ops->poll(b), -EPIPE);
	b->ops->close(b);
	return n;
}

static void does_no_harm(void **state)
{
	const struct link_loop_faults f = {.seed = 1, .reorder = 30000, .delay = 30000};
	struct counts n = run(&f);

	(void)state;
	assert_int_equal(n.lost + n.twice + n.stale, 0);
	assert_int_equal(n.came, PASSES * FRAMES);
}

static void loses(void **state)
{
	const struct link_loop_faults f = {.seed = 1, .lose = 6000};
	const struct link_loop_faults g = {.seed = 1, .lose_answer = 6000};
	const struct link_loop_faults c = {.seed = 1, .corrupt = 6000};
	struct counts n = run(&f);

	(void)state;
	assert_int_equal(n.came + n.lost, PASSES * FRAMES);
	assert_true(n.lost > 0);
	n = run(&g);
	assert_int_equal(n.came, PASSES * FRAMES);
	assert_true(n.lost > 0);
	n = run(&c); // without payload only headers can be hit: they are dropped
	assert_true(n.lost > 0);
}

static void repeats(void **state)
{
	const struct link_loop_faults f = {.seed = 1, .duplicate = 6000};
	const struct link_loop_faults g = {.seed = 1, .stale = 6000};
	struct counts n = run(&f);

	(void)state;
	assert_true(n.twice > 0);
	assert_int_equal(n.stale + n.lost, 0);
	n = run(&g);
	assert_true(n.stale > 0);
	assert_int_equal(n.twice + n.lost, 0);
}

static void same_seed_same_faults(void **state)
{
	struct link_loop_faults f = {3, 3000, 3000, 3000, 3000, 3000, 3000, 3000};
	struct counts a = run(&f), b = run(&f), c;

	(void)state;
	assert_memory_equal(&a, &b, sizeof(a));
	f.seed = 4;
	c = run(&f);
	assert_memory_not_equal(&a, &c, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(does_no_harm),
		cmocka_unit_test(loses),
		cmocka_unit_test(repeats),
		cmocka_unit_test(same_seed_same_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
