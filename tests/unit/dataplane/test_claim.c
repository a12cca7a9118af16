// SPDX-License-Identifier: BSD-3-Clause
// Claiming: every span goes to exactly one lcore, with what control wrote before it was published;
// nodes help each other; a pass is over only when all of it is claimed.

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sched.h>

#include "claim.h"

#define SPANS  50000u
#define TAKERS 3u
#define NNODES 2u

static struct claim c;
static uint64_t plane[SPANS];         // written before publishing, plainly
static _Atomic unsigned taken[SPANS]; // by how many
static _Atomic unsigned wrong;

static void keeps_what_it_is_given(void **state)
{
	const struct span in[] = {
		{.chunk = 0, .region = 0, .nchunks = 1},
		{.chunk = (UINT64_C(1) << 28) - 1, .region = 63, .nchunks = 16, .holes = true},
		{.chunk = 12345, .region = 7, .nchunks = 9, .holes = true},
	};
	struct span s;

	(void)state;
	assert_int_equal(claim_init(&c, 1), 0);
	assert_int_equal(claim_publish(&c, 5, in, 3), 3); // no such node: 0
	assert_int_equal(claim_backlog(&c), 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(claim_take(&c, 0, &s));
		assert_int_equal(s.chunk, in[i].chunk);
		assert_int_equal(s.region, in[i].region);
		assert_int_equal(s.nchunks, in[i].nchunks);
		assert_int_equal(s.holes, in[i].holes);
	}
	assert_false(claim_take(&c, 0, &s));
	claim_fini(&c);
}

static void is_bounded(void **state)
{
	struct span s = {.nchunks = 1};

	(void)state;
	assert_int_equal(claim_init(&c, 0), -EINVAL);
	assert_int_equal(claim_init(&c, CLAIM_NODES + 1), -EINVAL);
	assert_int_equal(claim_init(&c, 1), 0);
	for (unsigned i = 0; i < CLAIM_RING; i++)
		assert_int_equal(claim_publish(&c, 0, &s, 1), 1);
	assert_int_equal(claim_publish(&c, 0, &s, 1), 0);
	assert_true(claim_take(&c, 0, &s));
	assert_int_equal(claim_publish(&c, 0, &s, 1), 1);
	claim_fini(&c);
}

static void own_node_first(void **state)
{
	struct span a = {.chunk = 1, .nchunks = 1}, b = {.chunk = 2, .nchunks = 1}, s;

	(void)state;
	assert_int_equal(claim_init(&c, NNODES), 0);
	claim_publish(&c, 0, &a, 1);
	claim_publish(&c, 1, &b, 1);
	assert_true(claim_take(&c, 1, &s));
	assert_int_equal(s.chunk, 2);
	assert_true(claim_take(&c, 1, &s)); // then helps
	assert_int_equal(s.chunk, 1);
	assert_false(claim_take(&c, 1, &s));
	claim_fini(&c);
}

static void a_pass_is_over_when_claimed(void **state)
{
	struct span s = {.nchunks = 1};

	(void)state;
	assert_int_equal(claim_init(&c, NNODES), 0);
	assert_false(claim_pass_over(&c, 0));
	claim_publish(&c, 1, &s, 1);
	claim_close_pass(&c, 0);
	assert_false(claim_pass_over(&c, 0));
	assert_true(claim_take(&c, 0, &s));
	assert_true(claim_pass_over(&c, 0));
	assert_false(claim_pass_over(&c, 1));
	claim_close_pass(&c, 1);
	assert_true(claim_pass_over(&c, 1));
	claim_fini(&c);
}

static void *taker(void *arg)
{
	unsigned node = (unsigned)(uintptr_t)arg % NNODES;
	struct span s;

	while (!claim_pass_over(&c, 0)) {
		if (!claim_take(&c, node, &s)) {
			sched_yield();
			continue;
		}
		if (s.chunk >= SPANS || plane[s.chunk] != s.chunk + 1)
			atomic_fetch_add(&wrong, 1);
		else
			atomic_fetch_add(&taken[s.chunk], 1);
	}
	return NULL;
}

static void many_take(void **state)
{
	pthread_t t[TAKERS];

	(void)state;
	assert_int_equal(claim_init(&c, NNODES), 0);
	for (uintptr_t i = 0; i < TAKERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, taker, (void *)i), 0);
	for (uint64_t i = 0; i < SPANS; i++) {
		struct span s = {.chunk = i, .nchunks = 1};

		plane[i] = i + 1;
		while (claim_publish(&c, i % NNODES, &s, 1) == 0)
			sched_yield();
	}
	claim_close_pass(&c, 0);
	for (unsigned i = 0; i < TAKERS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(wrong, 0);
	for (unsigned i = 0; i < SPANS; i++)
		assert_int_equal(taken[i], 1);
	claim_fini(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_what_it_is_given),
		cmocka_unit_test(is_bounded),
		cmocka_unit_test(own_node_first),
		cmocka_unit_test(a_pass_is_over_when_claimed),
		cmocka_unit_test(many_take),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
