// SPDX-License-Identifier: BSD-3-Clause
// Zero scan with AVX-512. Run by polling cores of CPUs that have it.

#include "zero_rows.h"

#include "region.h"

#include <immintrin.h>

#define STEP_BYTES 512u

__attribute__((target("avx512f"))) static __m512i pair(const uint8_t *at)
{
	return _mm512_or_si512(_mm512_load_si512(at), _mm512_load_si512(at + 64));
}

__attribute__((target("avx512f"))) static bool page_is_zero(const uint8_t *page)
{
	__m512i first = _mm512_load_si512(page);

	// Content mostly shows in the first line.
	if (_mm512_test_epi64_mask(first, first) != 0)
		return false;
	for (unsigned i = 0; i < PAGE_BYTES; i += STEP_BYTES) {
		const uint8_t *at = page + i;
		__m512i a = _mm512_or_si512(pair(at), pair(at + 128));
		__m512i b = _mm512_or_si512(pair(at + 256), pair(at + 384));

		a = _mm512_or_si512(a, b);
		if (_mm512_test_epi64_mask(a, a) != 0)
			return false;
	}
	return true;
}

__attribute__((target("avx512f"))) uint64_t zero_scan_avx512(const uint8_t *base, uint64_t mask)
{
	uint64_t zero = 0;

	for (uint64_t left = mask; left != 0; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzll(left);

		if (page_is_zero(base + i * PAGE_BYTES))
			zero |= UINT64_C(1) << i;
	}
	return zero;
}
