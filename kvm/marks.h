/* SPDX-License-Identifier: BSD-3-Clause */
/* Marked pages: one word a chunk, lazily populated, with a bit above each group of 8 words, so
 * that a walk over a terabyte without marks costs microseconds. Any thread may mark at any time;
 * one thread at a time does the rest. */
#ifndef GODWIT_KVM_MARKS_H
#define GODWIT_KVM_MARKS_H

#include <stdint.h>

#define MARKS_GROUP 8u /* words under one group bit: a cache line */

struct marks {
	uint64_t nwords;
	uint64_t ngroups;
	uint64_t *words;  /* any thread: or; owner: exchange, and-not */
	uint64_t *groups; /* a group with a word that is not zero has its bit set */
};

/* 0 or -ENOMEM. */
int marks_init(struct marks *m, uint64_t nwords);
void marks_fini(struct marks *m);

/* words[word] |= bits. Lock-free; full barrier. word < nwords. */
void marks_or(struct marks *m, uint64_t word, uint64_t bits);

/* Marks bits [bit, bit + n). */
void marks_range(struct marks *m, uint64_t bit, uint64_t n);

/* Owner: unmarks bits of one word. */
void marks_clear(struct marks *m, uint64_t word, uint64_t bits);

/* Owner: unmarks want's bits in words [first, first + n); want is indexed from first. */
void marks_clear_words(struct marks *m, uint64_t first, uint64_t n, const uint64_t *want);

/* Owner: moves all marks of from (others may go on marking there) into to. Equal sizes. */
void marks_move(struct marks *from, struct marks *to);

/* Owner, nobody else marks: out[w] |= words[w] for all; marks stay. Returns bits that out did not
 * have before. Touches only words of out that change. */
int64_t marks_show(struct marks *m, uint64_t *out);

/* Owner, nobody marks: forgets all, gives the memory back. */
void marks_drop(struct marks *m);

#endif
