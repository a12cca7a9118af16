// SPDX-License-Identifier: BSD-3-Clause
// What AES-256 alone takes of a core that has VAES and AVX-512: the fourteen rounds of each block
// of the image's pages, in counter mode, with no sum over them. No AES-256-GCM is faster than that.

#include "stage.h"

#include <errno.h>
#include <immintrin.h>

#define ROUNDS       14
#define LANES        8 // as many as hide a round's latency
#define LANE_BYTES   64u
#define PACKET_PAGES 2u // as seal/8k has
#define ROW          __attribute__((target("avx512f,vaes")))

static int rounds_open(struct bench *b, int arg, void **state)
{
	(void)b, (void)arg, (void)state;
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("vaes") ? 0 : -ENOTSUP;
}

// One page of which `out` takes what it becomes; the keys are any.
ROW static void page(const uint8_t *in, uint8_t *out, const __m512i key[ROUNDS + 1])
{
	for (unsigned at = 0; at < PAGE_BYTES; at += LANES * LANE_BYTES) {
		__m512i block[LANES];

		for (int i = 0; i < LANES; i++)
			block[i] = _mm512_xor_si512(_mm512_set1_epi64((long long)at + i), key[0]);
		for (int r = 1; r < ROUNDS; r++)
			for (int i = 0; i < LANES; i++)
				block[i] = _mm512_aesenc_epi128(block[i], key[r]);
		for (unsigned i = 0; i < LANES; i++) {
			const __m512i last = _mm512_aesenclast_epi128(block[i], key[ROUNDS]);

			_mm512_store_si512(out + at + i * LANE_BYTES,
				_mm512_xor_si512(
					last, _mm512_load_si512(in + at + i * LANE_BYTES)));
		}
	}
}

ROW static uint64_t rounds_run(struct bench *b, int arg, void *state)
{
	static uint8_t out[PACKET_PAGES * PAGE_BYTES] __attribute__((aligned(64)));
	__m512i key[ROUNDS + 1];

	(void)state;
	for (int i = 0; i <= ROUNDS; i++)
		key[i] = _mm512_set1_epi32(i * 77);
	for (uint64_t n = 0; n < b->pages; n++) {
		uint64_t to = n % PACKET_PAGES, from = arg != 0 ? to : n;

		page(b->image + from * PAGE_BYTES, out + to * PAGE_BYTES, key);
	}
	bench_use(out[0]);
	return b->pages;
}

const struct stage stage_rounds[] = {
	{"seal/rounds", "AES-256 alone, no sum: what no seal can be below", 0, rounds_open,
		rounds_run, NULL},
	{"seal/warm-rounds", "the same packet again: its pages are in the cache", 1, rounds_open,
		rounds_run, NULL},
	{NULL, NULL, 0, NULL, NULL, NULL},
};
