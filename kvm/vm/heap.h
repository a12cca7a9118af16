/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest's heap: the last part of each vCPU's pages, which it takes into use and gives up again.
 * Free pages that it gave up hold zeros, as with init_on_free, or another value, as with page
 * poisoning, and it relies on that; it tells the VMM which are free when asked, and uses them again
 * at once. Pages in the balloon are told before they are used. Included by the freestanding guest
 * and by the software guest.
 *
 * The table of counts says what a heap page is: one of HEAP_*, or in use and stamped so often. It
 * is HEAP_JUNK while the page changes, so that a checker never looks at half a change. */
#ifndef GODWIT_VM_HEAP_H
#define GODWIT_VM_HEAP_H

#include "guest.h"

#define HEAP_JUNK    0xfffffffdu /* free; what it holds does not matter */
#define HEAP_FREE    0xfffffffeu /* free; holds zeros, or the poison */
#define HEAP_BALLOON 0xffffffffu
#define HEAP_STATES  HEAP_JUNK /* the lowest of them */

/* How the program reaches memory and the VMM. */
struct heap_env {
	char *(*at)(void *arg, uint64_t gpa);
	uint32_t (*ask)(void *arg, uint16_t port); /* reads a port */
	void (*tell)(void *arg, uint16_t port, uint32_t value);
	void *arg;
};

/* Whether all words of these bytes are the value. */
static inline int heap_holds(const char *at, uint32_t bytes, uint32_t value)
{
	const uint64_t *q = (const uint64_t *)(const void *)at;
	uint64_t two = (uint64_t)value << 32 | value, other = 0;

	for (uint32_t i = 0; i < bytes / 8; i++)
		other |= q[i] ^ two;
	return other == 0;
}

static inline void heap_fill(char *page, uint32_t value)
{
	uint64_t *q = (uint64_t *)(void *)page, two = (uint64_t)value << 32 | value;

	for (uint32_t i = 0; i < GUEST_PAGE / 8; i++) {
		q[i] = two;
		guest_barrier(); /* no library's memset in the guest */
	}
}

/* Takes a page into use: whatever it was, it is stamped for the first time. */
static inline void heap_use(const struct params *p, uint64_t gpa, char *page, uint32_t *state)
{
	uint64_t sum = stamp_sum(p, gpa, 1);

	*state = HEAP_JUNK;
	guest_barrier();
	stamp_put((struct stamp *)(void *)(page + STAMP_HEAD), gpa, 1, sum);
	stamp_put((struct stamp *)(void *)(page + STAMP_TAIL), gpa, 1, sum);
	guest_barrier();
	*state = 1;
}

static inline void heap_range(struct block *b, uint64_t gpa, uint64_t n)
{
	b->hint_gpa = gpa;
	b->hint_n = n;
	guest_barrier();
}

static inline void heap_torn(
	struct block *b, const struct heap_env *v, uint64_t gpa, uint64_t want, const char *page)
{
	b->torn_gpa = gpa;
	b->torn_want = want;
	b->torn_head = *(const struct stamp *)(const void *)(page + STAMP_HEAD);
	b->torn_tail = *(const struct stamp *)(const void *)(page + STAMP_TAIL);
	guest_barrier();
	v->tell(v->arg, PORT_TORN, 0);
}

/* A page in use is looked at and given up. */
static inline void heap_give_up(const struct params *p, struct block *b, const struct heap_env *v,
	uint64_t gpa, char *page, uint32_t *state, int to_balloon)
{
	const struct stamp *head = (const struct stamp *)(const void *)(page + STAMP_HEAD);
	const struct stamp *tail = (const struct stamp *)(const void *)(page + STAMP_TAIL);
	uint64_t sum = stamp_sum(p, gpa, *state);

	if (!stamp_is(head, gpa, *state, sum) || !stamp_is(tail, gpa, *state, sum))
		heap_torn(b, v, gpa, *state, page);
	*state = HEAP_JUNK;
	guest_barrier();
	if (to_balloon) {
		*state = HEAP_BALLOON;
		heap_range(b, gpa, 1);
		v->tell(v->arg, PORT_INFLATE, 0);
		return;
	}
	heap_fill(page, p->poison);
	guest_barrier();
	*state = HEAP_FREE;
}

/* One change of heap page i. */
static inline void heap_step(const struct params *p, struct block *b, struct loop *l,
	uint32_t *table, uint64_t i, const struct heap_env *v)
{
	uint64_t gpa = guest_gpa(p, i);
	char *page = v->at(v->arg, gpa);
	uint32_t *state = &table[i];

	if (b->cur_index == i)
		b->cur_count = 0; /* no longer being stamped */
	if (*state < HEAP_STATES) {
		heap_give_up(p, b, v, gpa, page, state, p->balloon && (loop_random(l) & 1));
		return;
	}
	if (*state == HEAP_FREE && !heap_holds(page, GUEST_PAGE, p->poison))
		heap_torn(b, v, gpa, HEAP_FREE, page);
	if (*state == HEAP_BALLOON) {
		heap_range(b, gpa, 1);
		v->tell(v->arg, PORT_DEFLATE, 0); /* before it is used */
	}
	heap_use(p, gpa, page, state);
}

static inline uint64_t heap_pick(struct loop *l, uint64_t first, uint64_t n)
{
	return first + ((loop_random(l) >> 32) * n >> 32);
}

/* Tells all runs of free pages, and uses one page of each run again at once. */
static inline void heap_report(const struct params *p, struct block *b, struct loop *l,
	uint32_t *table, const struct heap_env *v)
{
	uint64_t i = l->heap_first, end = l->heap_first + l->heap_n;

	while (i < end) {
		uint64_t first = i, gpa = guest_gpa(p, i);

		while (i < end && (table[i] == HEAP_FREE || table[i] == HEAP_JUNK) &&
			guest_gpa(p, i) - gpa == (i - first) * GUEST_PAGE)
			i++;
		if (i == first) {
			i++;
			continue;
		}
		heap_range(b, gpa, i - first);
		v->tell(v->arg, PORT_FREE, 0);
		heap_step(p, b, l, table, heap_pick(l, first, i - first), v);
	}
	v->tell(v->arg, PORT_FREE_END, 0);
}

/* What a vCPU does with its heap after each batch. */
static inline void heap_batch(const struct params *p, struct block *b, struct loop *l,
	uint32_t *table, const struct heap_env *v)
{
	uint32_t id;

	if (l->heap_n == 0)
		return;
	for (uint32_t k = p->churn; k > 0; k--)
		heap_step(p, b, l, table, heap_pick(l, l->heap_first, l->heap_n), v);
	id = v->ask(v->arg, PORT_FREE);
	if (id != 0 && id != b->free_id)
		heap_report(p, b, l, table, v);
	b->free_id = id;
}

#endif
