// SPDX-License-Identifier: BSD-3-Clause
// Runs of bits. Pure functions, run by any thread.

#include "bits.h"

#include <stddef.h>

static uint64_t range_mask(uint64_t word, uint64_t first, uint64_t end)
{
	uint64_t base = word * WORD_BITS;
	uint64_t mask = ~UINT64_C(0);

	if (first > base)
		mask &= ~bits_low((unsigned)(first - base));
	if (end < base + WORD_BITS)
		mask &= bits_low((unsigned)(end - base));
	return mask;
}

void bits_set_range(uint64_t *map, uint64_t first, uint64_t n)
{
	uint64_t end = first + n;

	if (n == 0)
		return;
	for (uint64_t w = first / WORD_BITS; w <= (end - 1) / WORD_BITS; w++)
		map[w] |= range_mask(w, first, end);
}

void bits_clear_range(uint64_t *map, uint64_t first, uint64_t n)
{
	uint64_t end = first + n;

	if (n == 0)
		return;
	for (uint64_t w = first / WORD_BITS; w <= (end - 1) / WORD_BITS; w++) {
		uint64_t mask = range_mask(w, first, end);

		if (map[w] & mask)
			map[w] &= ~mask;
	}
}

uint64_t bits_count_range(const uint64_t *map, uint64_t first, uint64_t n)
{
	uint64_t end = first + n;
	uint64_t sum = 0;

	if (n == 0)
		return 0;
	for (uint64_t w = first / WORD_BITS; w <= (end - 1) / WORD_BITS; w++)
		sum += bits_count(map[w] & range_mask(w, first, end));
	return sum;
}

int bits_runs(const uint64_t *map, uint64_t first, uint64_t n, bits_run_fn fn, void *arg)
{
	uint64_t end = first + n;
	uint64_t start = 0;
	uint64_t len = 0;
	int rc;

	if (n == 0)
		return 0;
	if (map == NULL)
		return fn(arg, first, n);

	for (uint64_t w = first / WORD_BITS; w <= (end - 1) / WORD_BITS; w++) {
		uint64_t left = map[w] & range_mask(w, first, end);
		uint64_t base = w * WORD_BITS;

		while (left != 0) {
			unsigned at, ones = bits_run(left, &at);

			if (len != 0 && start + len == base + at) {
				len += ones;
			} else {
				if (len != 0 && (rc = fn(arg, start, len)) != 0)
					return rc;
				start = base + at;
				len = ones;
			}
			left &= ~bits_mask(at, ones);
		}
	}
	return len != 0 ? fn(arg, start, len) : 0;
}
