// SPDX-License-Identifier: BSD-3-Clause
// Marked pages against the simplest code that is right, and with threads that mark meanwhile.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bits.h"
#include "marks.h"
#include "seed.h"

#define WORDS 1000u

static void against_plain(void **state)
{
	static uint64_t plain[WORDS], out[WORDS], want[WORDS], plain_to[WORDS];
	struct seed rng = {3};
	struct marks m, to;

	(void)state;
	assert_int_equal(marks_init(&m, WORDS), 0);
	assert_int_equal(marks_init(&to, WORDS), 0);
	for (unsigned i = 0; i < 3000; i++) {
		uint64_t first = seed_below(&rng, WORDS);
		uint64_t n = 1 + seed_below(&rng, WORDS - first);

		switch (seed_below(&rng, 4)) {
		case 0:
			n = 1 + seed_below(&rng, 300) % (WORDS - first);
			marks_range(&m, first * 64 + 7, n);
			for (uint64_t b = first * 64 + 7; b < first * 64 + 7 + n; b++)
				bits_set(plain, b);
			break;
		case 1:
			for (uint64_t c = 0; c < n; c++) {
				want[c] = seed_mask(&rng);
				plain[first + c] &= ~want[c];
			}
			marks_clear_words(&m, first, n, want);
			break;
		case 2:
			memset(out, 0, sizeof(out));
			assert_int_equal(
				marks_show(&m, out), bits_count_range(plain, 0, WORDS * 64));
			assert_memory_equal(out, plain, sizeof(out));
			assert_int_equal(marks_show(&m, out), 0);
			break;
		case 3:
			if (i % 5)
				break;
			marks_move(&m, &to);
			for (unsigned c = 0; c < WORDS; c++) {
				plain_to[c] |= plain[c];
				plain[c] = 0;
			}
			assert_memory_equal(to.words, plain_to, sizeof(plain_to));
			assert_memory_equal(m.words, plain, sizeof(plain));
			break;
		}
	}
	marks_drop(&to);
	memset(out, 0, sizeof(out));
	assert_int_equal(marks_show(&to, out), 0);
	marks_fini(&m);
	marks_fini(&to);
}

static struct marks shared;

/* Each thread marks its own bit of every word, once. */
static void *marker(void *arg)
{
	uint64_t bit = UINT64_C(1) << *(unsigned *)arg;

	for (unsigned w = 0; w < WORDS; w++)
		marks_or(&shared, w, bit);
	return NULL;
}

static void none_is_lost(void **state)
{
	pthread_t t[3];
	unsigned bit[3] = {0, 1, 63};
	struct marks got;

	(void)state;
	for (unsigned round = 0; round < 30; round++) {
		assert_int_equal(marks_init(&shared, WORDS), 0);
		assert_int_equal(marks_init(&got, WORDS), 0);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(pthread_create(&t[i], NULL, marker, &bit[i]), 0);
		for (unsigned i = 0; i < 50; i++)
			marks_move(&shared, &got);
		for (unsigned i = 0; i < 3; i++)
			pthread_join(t[i], NULL);
		marks_move(&shared, &got);
		for (unsigned w = 0; w < WORDS; w++)
			assert_int_equal(got.words[w], UINT64_C(1) << 63 | 3);
		marks_fini(&shared);
		marks_fini(&got);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(against_plain),
		cmocka_unit_test(none_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
