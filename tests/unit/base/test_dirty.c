// SPDX-License-Identifier: BSD-3-Clause
// The dirty set: a page is in set, in taken, or acknowledged, and never lost between them (law 1).

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bits.h"
#include "dirty.h"
#include "seed.h"

#define CHUNKS 64u

static void take_and_put_back(void **state)
{
	struct dirty d;
	uint64_t words[] = {0x0f, 0, 0xf0};

	(void)state;
	assert_int_equal(dirty_init(&d, CHUNKS), 0);
	dirty_or(&d, 10, words, 3);
	assert_int_equal(dirty_count(&d), 8);
	assert_int_equal(dirty_count_range(&d, 11, 2), 4);
	assert_int_equal(dirty_next(&d, 0, CHUNKS), 10);
	assert_int_equal(dirty_next(&d, 11, CHUNKS), 12);
	assert_int_equal(dirty_next(&d, 13, CHUNKS), CHUNKS);
	d.hole[13] = 1;
	assert_int_equal(dirty_next(&d, 13, CHUNKS), 13);

	// What arming reported beside is taken too.
	assert_int_equal(dirty_take(&d, 10, 0x100), 0x10f);
	assert_int_equal(dirty_take(&d, 10, 0), 0x10f);
	assert_int_equal(d.set[10], 0);
	d.taken[10] &= ~UINT64_C(0x3); // two were acknowledged
	// Three pages, and a hole that was not made.
	assert_int_equal(dirty_put_back(&d, 0, CHUNKS), 4);
	assert_int_equal(d.set[10], 0x10c);
	assert_int_equal(d.taken[10], 0);
	assert_int_equal(d.hole[13], 0);
	dirty_fini(&d);
}

// Random writes, takes, acknowledgements and put-backs: the pages that are dirty are always exactly
// those written and not acknowledged since.
static void nothing_is_lost(void **state)
{
	struct seed s = {3};
	struct dirty d;
	uint64_t owed[CHUNKS] = {0};

	(void)state;
	assert_int_equal(dirty_init(&d, CHUNKS), 0);
	for (unsigned round = 0; round < 50000; round++) {
		uint64_t c = seed_below(&s, CHUNKS);
		uint64_t word = seed_mask(&s);
		uint64_t acked;

		switch (seed_below(&s, 4)) {
		case 0:
			dirty_or(&d, c, &word, 1);
			owed[c] |= word;
			break;
		case 1:
			dirty_take(&d, c, word);
			owed[c] |= word;
			break;
		case 2:
			acked = d.taken[c] & word;
			d.taken[c] &= ~acked;
			owed[c] &= ~(acked & ~d.set[c]);
			break;
		default:
			dirty_put_back(&d, c, CHUNKS - c);
			break;
		}
		for (unsigned i = 0; i < CHUNKS; i++)
			assert_true((d.set[i] | d.taken[i]) == owed[i]);
	}
	dirty_fini(&d);
}

static void idle_terabytes_cost_nothing(void **state)
{
	struct dirty d;

	(void)state;
	assert_int_equal(dirty_init(&d, UINT64_C(1) << 26), 0); // 16 TiB of guest
	bits_set(d.set, UINT64_C(1) << 31);
	assert_int_equal(d.set[UINT64_C(1) << 25], 1);
	dirty_fini(&d);
}

/* Walks stop at every chunk of a touched group and at no other. */
static void touched_groups(void **state)
{
	const uint64_t n = 100 * DIRTY_GROUP + 7;
	struct dirty d;

	(void)state;
	assert_int_equal(dirty_init(&d, n), 0);
	assert_int_equal(dirty_touched(&d, 0, n), n);
	dirty_touch(&d, 3 * DIRTY_GROUP - 1, 2);
	dirty_touch(&d, 70 * DIRTY_GROUP + 5, 1);
	dirty_touch(&d, n - 1, 1);
	assert_int_equal(dirty_touched(&d, 0, n), 2 * DIRTY_GROUP);
	assert_int_equal(dirty_touched(&d, 3 * DIRTY_GROUP, n), 3 * DIRTY_GROUP);
	assert_int_equal(dirty_touched(&d, 4 * DIRTY_GROUP, n), 70 * DIRTY_GROUP);
	assert_int_equal(dirty_touched(&d, 4 * DIRTY_GROUP, 9 * DIRTY_GROUP), 9 * DIRTY_GROUP);
	assert_int_equal(dirty_touched(&d, 71 * DIRTY_GROUP, n), 100 * DIRTY_GROUP);
	dirty_take(&d, 50 * DIRTY_GROUP + 1, 1);
	assert_int_equal(dirty_touched(&d, 4 * DIRTY_GROUP, n), 50 * DIRTY_GROUP);
	dirty_fini(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(take_and_put_back),
		cmocka_unit_test(nothing_is_lost),
		cmocka_unit_test(idle_terabytes_cost_nothing),
		cmocka_unit_test(touched_groups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
