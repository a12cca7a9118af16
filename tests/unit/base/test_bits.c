// SPDX-License-Identifier: BSD-3-Clause
// Runs of bits and range operations, against the simplest code that is right.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bits.h"
#include "seed.h"

#define WORDS 7u
#define BITS  (WORDS * WORD_BITS)

struct seen {
	uint64_t start[BITS];
	uint64_t len[BITS];
	unsigned n;
	unsigned stop_after; // runs; 0: never
};

static int see(void *arg, uint64_t start, uint64_t len)
{
	struct seen *s = arg;

	s->start[s->n] = start;
	s->len[s->n++] = len;
	return s->n == s->stop_after ? 42 : 0;
}

// One bit at a time.
static void naive_runs(const uint64_t *map, uint64_t first, uint64_t n, struct seen *s)
{
	uint64_t len = 0;

	for (uint64_t i = first; i < first + n; i++) {
		if (bits_test(map, i)) {
			len++;
			continue;
		}
		if (len > 0)
			see(s, i - len, len);
		len = 0;
	}
	if (len > 0)
		see(s, first + n - len, len);
}

static void random_map(struct seed *s, uint64_t map[WORDS])
{
	for (unsigned i = 0; i < WORDS; i++)
		map[i] = seed_mask(s);
}

static void runs_equal_naive(void **state)
{
	struct seed s = {1};

	(void)state;
	for (unsigned round = 0; round < 20000; round++) {
		uint64_t map[WORDS];
		uint64_t first = seed_below(&s, BITS);
		uint64_t n = seed_below(&s, BITS - first + 1);
		struct seen want = {.n = 0}, got = {.n = 0};

		random_map(&s, map);
		naive_runs(map, first, n, &want);
		assert_int_equal(bits_runs(map, first, n, see, &got), 0);
		assert_int_equal(got.n, want.n);
		assert_memory_equal(got.start, want.start, want.n * sizeof(want.start[0]));
		assert_memory_equal(got.len, want.len, want.n * sizeof(want.len[0]));
	}
}

static void null_map_is_all_ones(void **state)
{
	struct seen got = {.n = 0};

	(void)state;
	assert_int_equal(bits_runs(NULL, 13, 1000, see, &got), 0);
	assert_int_equal(got.n, 1);
	assert_int_equal(got.start[0], 13);
	assert_int_equal(got.len[0], 1000);
	assert_int_equal(bits_runs(NULL, 13, 0, see, &got), 0);
	assert_int_equal(got.n, 1);
}

static void callback_ends_walk(void **state)
{
	uint64_t map[WORDS] = {0x5555, 0x5555};
	struct seen got = {.stop_after = 3};

	(void)state;
	assert_int_equal(bits_runs(map, 0, BITS, see, &got), 42);
	assert_int_equal(got.n, 3);
	// The value of the last run comes back as well.
	got = (struct seen){.stop_after = 16};
	assert_int_equal(bits_runs(map, 0, BITS, see, &got), 42);
}

static void ranges_equal_naive(void **state)
{
	struct seed s = {2};

	(void)state;
	for (unsigned round = 0; round < 20000; round++) {
		uint64_t map[WORDS], set[WORDS], clear[WORDS];
		uint64_t first = seed_below(&s, BITS);
		uint64_t n = seed_below(&s, BITS - first + 1);
		uint64_t count = 0;

		random_map(&s, map);
		memcpy(set, map, sizeof(map));
		memcpy(clear, map, sizeof(map));
		for (uint64_t i = first; i < first + n; i++) {
			count += bits_test(map, i);
			bits_set(set, i);
			bits_clear(clear, i);
		}
		assert_int_equal(bits_count_range(map, first, n), count);
		bits_set_range(map, first, n);
		assert_memory_equal(map, set, sizeof(map));
		bits_clear_range(map, first, n);
		for (unsigned i = 0; i < WORDS; i++)
			assert_int_equal(map[i] & clear[i], map[i]);
		assert_int_equal(bits_count_range(map, first, n), 0);
	}
}

static void low_masks(void **state)
{
	(void)state;
	assert_int_equal(bits_low(0), 0);
	assert_int_equal(bits_low(1), 1);
	assert_int_equal(bits_low(63), INT64_MAX);
	assert_true(bits_low(64) == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_equal_naive),
		cmocka_unit_test(null_map_is_all_ones),
		cmocka_unit_test(callback_ends_walk),
		cmocka_unit_test(ranges_equal_naive),
		cmocka_unit_test(low_masks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
