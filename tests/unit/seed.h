/* SPDX-License-Identifier: BSD-3-Clause */
/* Random numbers that come out the same for the same seed on every machine (splitmix64). */
#ifndef GODWIT_TESTS_SEED_H
#define GODWIT_TESTS_SEED_H

#include <stddef.h>
#include <stdint.h>

struct seed {
	uint64_t state;
};

static inline uint64_t seed_next(struct seed *s)
{
	uint64_t x = s->state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/* 0 to n - 1; n is not 0. */
static inline uint64_t seed_below(struct seed *s, uint64_t n)
{
	return seed_next(s) % n;
}

static inline void seed_fill(struct seed *s, void *buf, size_t bytes)
{
	uint8_t *p = buf;

	for (size_t i = 0; i < bytes; i++)
		p[i] = (uint8_t)seed_next(s);
}

/* A word whose bits come in runs, as real masks do; all zeros and all ones too. */
static inline uint64_t seed_mask(struct seed *s)
{
	switch (seed_below(s, 6)) {
	case 0:
		return 0;
	case 1:
		return ~UINT64_C(0);
	case 2:
		return seed_next(s);
	case 3:
		return seed_next(s) & seed_next(s) & seed_next(s);
	case 4:
		return (~UINT64_C(0) >> seed_below(s, 64)) << seed_below(s, 64);
	default:
		return UINT64_C(1) << seed_below(s, 64);
	}
}

#endif
