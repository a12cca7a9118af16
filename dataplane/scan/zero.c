// SPDX-License-Identifier: BSD-3-Clause
// Zero-page detection: the table of its rows and the choice among them. The scan runs on polling
// cores; zero_init() on the main thread before they start.

#include "zero.h"

#include "region.h"
#include "zero_rows.h"

#include <isa-l/mem_routines.h>
#include <stddef.h>
#include <string.h>

// Most pages with content show it in their first words; the whole page is read only when they are
// zero.
static bool page_is_zero(const uint8_t *page)
{
	for (size_t at = 0; at < PAGE_BYTES; at += 64) {
		uint64_t w[8];

		memcpy(w, page + at, sizeof(w));
		if ((w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7]) != 0)
			return false;
	}
	return true;
}

static uint64_t zero_scan_portable(const uint8_t *base, uint64_t mask)
{
	uint64_t zero = 0;

	for (uint64_t left = mask; left != 0; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzll(left);

		if (page_is_zero(base + i * PAGE_BYTES))
			zero |= UINT64_C(1) << i;
	}
	return zero;
}

static uint64_t zero_scan_isal(const uint8_t *base, uint64_t mask)
{
	uint64_t zero = 0;

	for (uint64_t left = mask; left != 0; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzll(left);

		// The library's prototype lacks const; it only reads.
		if (isal_zero_detect((void *)(base + i * PAGE_BYTES), PAGE_BYTES) == 0)
			zero |= UINT64_C(1) << i;
	}
	return zero;
}

static int cpu_any(void)
{
	return 1;
}

#if defined(__x86_64__)
// Zen 3 and 4 (measured on 4): the library's loop reads at 28 GiB/s, as a plain one does; the
// AVX-512 row at 24; and what prefetches, as the AVX2 row, at 19. On Zen 5 the AVX-512 row was as
// fast as a plain read, 38.
static int cpu_reads_best_plainly(void)
{
	return __builtin_cpu_is("amdfam19h");
}

static int cpu_avx2(void)
{
	return __builtin_cpu_supports("avx2");
}

static int cpu_avx512(void)
{
	return __builtin_cpu_supports("avx512f");
}
#endif

// Best last, but where zero_init() knows better.
const struct zero_impl zero_impls[] = {
	{"portable", zero_scan_portable, cpu_any},
	{"isal", zero_scan_isal, cpu_any},
#if defined(__x86_64__)
	{"avx2", zero_scan_avx2, cpu_avx2},
	{"avx512", zero_scan_avx512, cpu_avx512},
#endif
	{NULL, NULL, NULL},
};

zero_scan_fn zero_scan = zero_scan_portable;

void zero_init(void)
{
	zero_scan_fn best = zero_scan_portable;

	for (const struct zero_impl *z = zero_impls; z->name != NULL; z++)
		if (z->supported())
			best = z->scan;
#if defined(__x86_64__)
	if (cpu_reads_best_plainly())
		best = zero_scan_isal;
#endif
	if (zero_scan != best)
		zero_scan = best;
}

const char *zero_name(void)
{
	for (const struct zero_impl *z = zero_impls; z->name != NULL; z++)
		if (z->scan == zero_scan)
			return z->name;
	return "none";
}
