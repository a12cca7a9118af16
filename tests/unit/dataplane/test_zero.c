// SPDX-License-Identifier: BSD-3-Clause
// Zero scan: every row that this CPU has, against the simplest code that is right. Pages outside
// the mask are not even readable.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "region.h"
#include "seed.h"
#include "zero.h"

static uint8_t *chunk;

static int setup(void **state)
{
	(void)state;
	chunk = mmap(NULL, CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return chunk == MAP_FAILED ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	return munmap(chunk, CHUNK_BYTES);
}

// One nonzero byte anywhere in a page is content.
static void every_byte_counts(void **state)
{
	(void)state;
	for (const struct zero_impl *z = zero_impls; z->name != NULL; z++) {
		if (!z->supported())
			continue;
		for (uint64_t at = 0; at < PAGE_BYTES; at++) {
			chunk[5 * PAGE_BYTES + at] = (uint8_t)(1u << at % 8);
			assert_true(z->scan(chunk, 0x70) == 0x50);
			chunk[5 * PAGE_BYTES + at] = 0;
		}
		assert_true(z->scan(chunk, 0x70) == 0x70);
		assert_true(z->scan(chunk, 0) == 0);
		assert_true(z->scan(chunk, UINT64_MAX) == UINT64_MAX);
	}
}

static void rows_equal_naive(void **state)
{
	struct seed s = {8};

	(void)state;
	for (unsigned round = 0; round < 300; round++) {
		uint64_t content = seed_mask(&s);
		uint64_t mask = seed_mask(&s);

		for (unsigned i = 0; i < CHUNK_PAGES; i++)
			if (content >> i & 1)
				chunk[i * PAGE_BYTES + seed_below(&s, PAGE_BYTES)] = 1;
		for (const struct zero_impl *z = zero_impls; z->name != NULL; z++)
			if (z->supported())
				assert_true(z->scan(chunk, mask) == (mask & ~content));
		memset(chunk, 0, CHUNK_BYTES);
	}
}

static void other_pages_are_not_read(void **state)
{
	const uint64_t mask = UINT64_C(0x8000000000550001);

	(void)state;
	for (unsigned i = 0; i < CHUNK_PAGES; i++)
		if ((mask >> i & 1) == 0)
			assert_int_equal(
				mprotect(chunk + i * PAGE_BYTES, PAGE_BYTES, PROT_NONE), 0);
	for (const struct zero_impl *z = zero_impls; z->name != NULL; z++)
		if (z->supported())
			assert_true(z->scan(chunk, mask) == mask);
	assert_int_equal(mprotect(chunk, CHUNK_BYTES, PROT_READ | PROT_WRITE), 0);
}

static void best_row_is_chosen(void **state)
{
	const char *best = NULL;

	(void)state;
	assert_string_equal(zero_name(), "portable");
	zero_init();
	for (const struct zero_impl *z = zero_impls; z->name != NULL; z++)
		if (z->supported())
			best = z->name;
#if defined(__x86_64__)
	if (__builtin_cpu_is("amdfam19h")) // Zen 3 and 4: see zero.c
		best = "isal";
#endif
	assert_string_equal(zero_name(), best);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte_counts),
		cmocka_unit_test(rows_equal_naive),
		cmocka_unit_test(other_pages_are_not_read),
		cmocka_unit_test(best_row_is_chosen),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
