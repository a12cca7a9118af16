// SPDX-License-Identifier: BSD-3-Clause
// Plain read loops. They do nothing but load every byte: wide loads, eight accumulators so that no
// load waits for another, with and without software prefetch. A bar takes the fastest of them.

#include "read.h"

#include <immintrin.h>

#define AHEAD 2048 // bytes; the best of 512 to 8192 on the machines measured so far

__attribute__((target("avx2"))) static inline uint64_t fold256(__m256i a[8])
{
	__m256i x = a[0];

	for (unsigned i = 1; i < 8; i++)
		x = _mm256_or_si256(x, a[i]);
	return (uint64_t)_mm256_movemask_epi8(x);
}

__attribute__((target("avx2"))) static uint64_t read_avx2(const uint8_t *p, uint64_t bytes)
{
	__m256i a[8] = {0};

	for (uint64_t at = 0; at < bytes; at += 256)
		for (unsigned i = 0; i < 8; i++)
			a[i] = _mm256_or_si256(
				a[i], _mm256_load_si256((const void *)(p + at + 32 * i)));
	return fold256(a);
}

__attribute__((target("avx2"))) static uint64_t read_avx2_ahead(const uint8_t *p, uint64_t bytes)
{
	__m256i a[8] = {0};

	for (uint64_t at = 0; at < bytes; at += 256) {
		for (unsigned i = 0; i < 256; i += 64)
			_mm_prefetch((const void *)(p + at + AHEAD + i), _MM_HINT_T0);
		for (unsigned i = 0; i < 8; i++)
			a[i] = _mm256_or_si256(
				a[i], _mm256_load_si256((const void *)(p + at + 32 * i)));
	}
	return fold256(a);
}

__attribute__((target("avx512f"))) static inline uint64_t fold512(__m512i a[8])
{
	__m512i x = a[0];

	for (unsigned i = 1; i < 8; i++)
		x = _mm512_or_si512(x, a[i]);
	return (uint64_t)_mm512_reduce_or_epi64(x);
}

__attribute__((target("avx512f"))) static uint64_t read_avx512(const uint8_t *p, uint64_t bytes)
{
	__m512i a[8] = {0};

	for (uint64_t at = 0; at < bytes; at += 512)
		for (unsigned i = 0; i < 8; i++)
			a[i] = _mm512_or_si512(a[i], _mm512_load_si512(p + at + 64 * i));
	return fold512(a);
}

__attribute__((target("avx512f"))) static uint64_t read_avx512_ahead(
	const uint8_t *p, uint64_t bytes)
{
	__m512i a[8] = {0};

	for (uint64_t at = 0; at < bytes; at += 512) {
		for (unsigned i = 0; i < 512; i += 64)
			_mm_prefetch((const void *)(p + at + AHEAD + i), _MM_HINT_T0);
		for (unsigned i = 0; i < 8; i++)
			a[i] = _mm512_or_si512(a[i], _mm512_load_si512(p + at + 64 * i));
	}
	return fold512(a);
}

const struct read_loop read_loops[READS] = {
	[READ_AVX2] = {"read/avx2", "avx2", read_avx2},
	[READ_AVX2_AHEAD] = {"read/avx2-ahead", "avx2", read_avx2_ahead},
	[READ_AVX512] = {"read/avx512", "avx512f", read_avx512},
	[READ_AVX512_AHEAD] = {"read/avx512-ahead", "avx512f", read_avx512_ahead},
};

int read_supported(int loop)
{
	return loop < READ_AVX512 ? __builtin_cpu_supports("avx2")
				  : __builtin_cpu_supports("avx512f");
}
