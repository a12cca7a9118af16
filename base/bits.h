/* SPDX-License-Identifier: BSD-3-Clause */
/* Words and runs of bits. Bit 0 of word 0 is the first page; a word is 64 bits. */
#ifndef GODWIT_BASE_BITS_H
#define GODWIT_BASE_BITS_H

#include <stdbool.h>
#include <stdint.h>

#define WORD_BITS 64u

/* A mask of the n lowest bits; n from 0 to 64. */
static inline uint64_t bits_low(unsigned n)
{
	return n >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1;
}

static inline unsigned bits_count(uint64_t w)
{
	return (unsigned)__builtin_popcountll(w);
}

static inline bool bits_test(const uint64_t *map, uint64_t bit)
{
	return (map[bit / 64] >> (bit % 64)) & 1;
}

static inline void bits_set(uint64_t *map, uint64_t bit)
{
	map[bit / 64] |= UINT64_C(1) << (bit % 64);
}

static inline void bits_clear(uint64_t *map, uint64_t bit)
{
	map[bit / 64] &= ~(UINT64_C(1) << (bit % 64));
}

/* The lowest run of set bits in a word that is not 0: its first bit and how many. The step of
 * bits_runs(), for loops within one word that do something else for each run than a range operation
 * does: gather, copy. */
static inline unsigned bits_run(uint64_t w, unsigned *first)
{
	uint64_t rest;

	*first = (unsigned)__builtin_ctzll(w);
	rest = ~(w >> *first);
	return rest == 0 ? WORD_BITS : (unsigned)__builtin_ctzll(rest);
}

/* The bits [first, first + n) of a word. */
static inline uint64_t bits_mask(unsigned first, unsigned n)
{
	return bits_low(n) << first;
}

/* Sets bits [first, first + n). */
void bits_set_range(uint64_t *map, uint64_t first, uint64_t n);

/* Clears bits [first, first + n). Touches no word that holds none of them set. */
void bits_clear_range(uint64_t *map, uint64_t first, uint64_t n);

/* Number of set bits in [first, first + n). */
uint64_t bits_count_range(const uint64_t *map, uint64_t first, uint64_t n);

/* Calls fn(arg, start, len) for each maximal run of set bits in [first, first + n), in order.
 * map NULL means all ones. fn returns 0 to go on; another value ends the walk and is returned.
 * Every range operation (clear, write-protect, punch) goes through this one function. */
typedef int (*bits_run_fn)(void *arg, uint64_t start, uint64_t len);
int bits_runs(const uint64_t *map, uint64_t first, uint64_t n, bits_run_fn fn, void *arg);

#endif
