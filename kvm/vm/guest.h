/* SPDX-License-Identifier: BSD-3-Clause */
/* What the guest program and the VMM agree on: where things lie in guest memory, the stamp that
 * each written page carries, and one step of the program. Included by the freestanding guest
 * (guest.c) and by the host, so it uses no library.
 *
 * A worked page carries a stamp at its head and a copy at its tail: its guest address, how often
 * it was stamped, and a checksum. A table holds the expected count of each page. Before a page is
 * stamped again its stamps are compared with the table, so the guest itself notices a page that was
 * lost, torn or old after it moved. */
#ifndef GODWIT_VM_GUEST_H
#define GODWIT_VM_GUEST_H

#include <stdint.h>

#define GUEST_MAGIC  UINT64_C(0x31474d5654574f47) /* "GOWTVMG1" */
#define GUEST_PARAMS 0x8000u                      /* struct params */
#define GUEST_STATUS 0x9000u                      /* the VMM writes here while it saves */
#define GUEST_CODE   0x10000u                     /* the program, up to 64 KiB */
#define GUEST_BLOCKS 0x20000u                     /* a page a vCPU: struct block, then its stack */
#define GUEST_PAGING 0x100000u                    /* page tables, then the table of counts */
#define GUEST_BIOS   0xfff00000u                  /* the second RAM file, 1 MiB */
#define GUEST_ALIAS  0xd0000000u                  /* a part of RAM shown a second time */
#define GUEST_HIGH   UINT64_C(0x100000000)        /* RAM above the hole */
#define GUEST_VCPUS  64u
#define GUEST_PAGE   4096u
#define PORT_BATCH   0xe0 /* out: pages stamped since the last one */
#define PORT_TORN    0xe4 /* out: struct block's torn fields are filled in */
#define PORT_CANARY  0xe8 /* out: a register did not survive; its number */
/* In: id of the request for free pages. Out: struct block's hint_* are free pages. */
#define PORT_FREE     0xec
#define PORT_FREE_END 0xf0 /* out: all free pages were told */
#define PORT_INFLATE  0xf4 /* out: hint_* goes into the balloon */
#define PORT_DEFLATE  0xf8 /* out: hint_* comes back; it is used afterwards */

enum pattern { PATTERN_SEQ, PATTERN_RANDOM, PATTERN_HOT };

/* Worked pages have an index: first those of the low slot, then of the high slot, then of the
 * second RAM file. Address of index i: (i << 12) + the delta of its part. */
struct params {
	uint64_t magic;
	uint64_t seed;
	uint64_t low_delta, high_delta, bios_delta;
	uint64_t n_low, n_ram, n_total;             /* ends of the three parts */
	uint64_t alias_first, alias_n, alias_delta; /* indices that the alias shows */
	uint64_t table_gpa;                         /* uint32_t count of each index */
	uint32_t nvcpus, batch, share, pattern;
	uint32_t content, populate; /* what memory held at first: image.h */
	uint32_t heap;              /* percent of each vCPU's pages: heap.h */
	uint32_t churn;             /* heap pages that change in a batch */
	uint32_t balloon;           /* percent of them that was in the balloon; 0: no balloon */
	uint32_t poison;            /* what free pages hold, word by word */
};

struct stamp {
	uint64_t gpa;
	uint64_t count;
	uint64_t sum;
};

/* What a vCPU tells about itself, at the start of its page. */
struct block {
	uint64_t done;      /* pages stamped */
	uint64_t cur_index; /* the page that is being stamped, and its new count */
	uint64_t cur_count;
	uint64_t torn_gpa; /* the last page found bad: where, expected count, what was there */
	uint64_t torn_want;
	struct stamp torn_head, torn_tail;
	uint64_t hint_gpa, hint_n; /* pages that a port is about */
	uint32_t free_id;          /* the request that was answered last */
};

/* Where the program is. Not in guest memory of its own accord: vCPU state must carry it. */
struct loop {
	uint64_t first, n, hot_n; /* the vCPU's own part of the indices */
	uint64_t heap_first, heap_n;
	uint64_t cursor;
	uint64_t rng;
};

static inline uint64_t stamp_sum(const struct params *p, uint64_t gpa, uint64_t count)
{
	return ((gpa + (count << 44)) ^ p->seed) * UINT64_C(0x9e3779b97f4a7c15);
}

/* The stamps of a page lie at these offsets. */
#define STAMP_HEAD 0u
#define STAMP_TAIL (GUEST_PAGE - (uint32_t)sizeof(struct stamp))

static inline int stamp_is(const struct stamp *s, uint64_t gpa, uint64_t count, uint64_t sum)
{
	return s->gpa == gpa && s->count == count && s->sum == sum;
}

static inline uint64_t guest_gpa(const struct params *p, uint64_t i)
{
	uint64_t delta = i < p->n_low ? p->low_delta : i < p->n_ram ? p->high_delta : p->bios_delta;

	return (i << 12) + delta;
}

static inline void loop_init(struct loop *l, const struct params *p, unsigned vcpu)
{
	uint64_t end = p->n_total * (vcpu + 1) / p->nvcpus;

	l->first = p->n_total * vcpu / p->nvcpus;
	l->heap_n = (end - l->first) * p->heap / 100;
	l->heap_first = end - l->heap_n;
	l->n = (end - l->first) * p->share / 100;
	if (l->n > l->heap_first - l->first)
		l->n = l->heap_first - l->first;
	if (l->n == 0)
		l->n = 1;
	l->hot_n = l->n / 16 + 1;
	l->cursor = 0;
	l->rng = (p->seed ^ (vcpu + 1) * UINT64_C(0x9e3779b97f4a7c15)) | 1;
}

static inline uint64_t loop_random(struct loop *l)
{
	l->rng ^= l->rng << 13;
	l->rng ^= l->rng >> 7;
	l->rng ^= l->rng << 17;
	return l->rng;
}

/* Index of the page to stamp next. */
static inline uint64_t loop_next(struct loop *l, uint32_t pattern)
{
	uint64_t r, n = l->n;

	if (pattern == PATTERN_SEQ) {
		r = l->cursor++;
		if (l->cursor == n)
			l->cursor = 0;
		return l->first + r;
	}
	r = loop_random(l);
	if (pattern == PATTERN_HOT && (r & 7) != 0)
		n = l->hot_n;
	return l->first + ((r >> 32) * n >> 32);
}

static inline void stamp_put(struct stamp *s, uint64_t gpa, uint64_t count, uint64_t sum)
{
	s->gpa = gpa;
	s->count = count;
	s->sum = sum;
}

#define guest_barrier() __asm__ volatile("" ::: "memory")

/* Checks and stamps one page. addr: where this program sees the page, gpa: its name, count: its
 * entry in the table. Returns 0 if the page did not hold what was expected (told in b); it is
 * stamped all the same. The order of the stores lets a checker tell a page that is being stamped:
 * cur_*, then the page, then the table. */
static inline int guest_stamp(const struct params *p, struct block *b, uint64_t i, uint64_t gpa,
	char *addr, uint32_t *count)
{
	struct stamp *head = (struct stamp *)(void *)(addr + STAMP_HEAD);
	struct stamp *tail = (struct stamp *)(void *)(addr + STAMP_TAIL);
	uint64_t want = *count;
	int good = 1;

	if (want != 0) {
		uint64_t sum = stamp_sum(p, gpa, want);

		good = stamp_is(head, gpa, want, sum) && stamp_is(tail, gpa, want, sum);
		if (__builtin_expect(!good, 0)) {
			b->torn_gpa = gpa;
			b->torn_want = want;
			b->torn_head = *head;
			b->torn_tail = *tail;
		}
	}
	want++;
	b->cur_index = i;
	b->cur_count = want;
	guest_barrier();
	stamp_put(head, gpa, want, stamp_sum(p, gpa, want));
	stamp_put(tail, gpa, want, stamp_sum(p, gpa, want));
	guest_barrier();
	*count = (uint32_t)want;
	guest_barrier();
	b->done++;
	return good;
}

#endif
