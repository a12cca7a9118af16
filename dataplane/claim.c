// SPDX-License-Identifier: BSD-3-Clause
// Spans that were armed, on their way from control to the lcores. control publishes, any number of
// lcores claim.
//
// Invariants: cursor <= armed <= cursor + CLAIM_RING; a span is claimed by exactly one lcore; what
// control wrote to the planes before it published a span is seen by the lcore that claims it.

#include "claim.h"

#include "mem.h"

#include <errno.h>
#include <string.h>

// chunk in the upper bits (REGION_TOTAL_MAX has 2^28 of them), region 8 bits, nchunks 7, holes 1.
static uint64_t pack(const struct span *s)
{
	return s->chunk << 16 | (uint64_t)(s->region & 0xff) << 8 | (uint64_t)s->nchunks << 1 |
	       s->holes;
}

static void unpack(uint64_t w, struct span *s)
{
	s->chunk = w >> 16;
	s->region = w >> 8 & 0xff;
	s->nchunks = w >> 1 & 0x7f;
	s->holes = w & 1;
}

int claim_init(struct claim *c, unsigned nnodes)
{
	memset(c, 0, sizeof(*c));
	if (nnodes == 0 || nnodes > CLAIM_NODES)
		return -EINVAL;
	c->nnodes = nnodes;
	for (unsigned i = 0; i < nnodes; i++) {
		c->node[i] = mem_new(sizeof(*c->node[i]), nnodes > 1 ? (int)i : -1);
		if (c->node[i] == NULL) {
			claim_fini(c);
			return -ENOMEM;
		}
	}
	return 0;
}

void claim_fini(struct claim *c)
{
	for (unsigned i = 0; i < c->nnodes; i++)
		mem_free(c->node[i], sizeof(*c->node[i]));
	memset(c, 0, sizeof(*c));
}

unsigned claim_publish(struct claim *c, unsigned node, const struct span *s, unsigned n)
{
	struct claim_queue *q = c->node[node < c->nnodes ? node : 0];
	uint64_t armed = atomic_load_explicit(&q->armed, memory_order_relaxed);
	// Pairs with the release of the cursor in take(): its slot was read before we write it.
	uint64_t cursor = atomic_load_explicit(&q->cursor, memory_order_acquire);
	uint64_t room = CLAIM_RING - (armed - cursor);

	if (n > room)
		n = (unsigned)room;
	for (unsigned i = 0; i < n; i++)
		atomic_store_explicit(
			&q->ring[(armed + i) % CLAIM_RING], pack(&s[i]), memory_order_relaxed);
	// Pairs with the acquire in take(): slot and planes are written before they are claimed.
	atomic_store_explicit(&q->armed, armed + n, memory_order_release);
	return n;
}

uint64_t claim_backlog(const struct claim *c)
{
	uint64_t spans = 0;

	for (unsigned i = 0; i < c->nnodes; i++)
		spans += atomic_load_explicit(&c->node[i]->armed, memory_order_relaxed) -
			 atomic_load_explicit(&c->node[i]->cursor, memory_order_relaxed);
	return spans;
}

bool claim_peek(const struct claim *c, unsigned node, int64_t i, struct span *s)
{
	const struct claim_queue *q = c->node[node];
	uint64_t cursor = atomic_load_explicit(&q->cursor, memory_order_relaxed);
	uint64_t armed = atomic_load_explicit(&q->armed, memory_order_relaxed);
	uint64_t at = cursor + (uint64_t)i; // wraps where i is less than -cursor

	if (at >= armed || armed - at > CLAIM_RING)
		return false;
	unpack(atomic_load_explicit(&q->ring[at % CLAIM_RING], memory_order_relaxed), s);
	return true;
}

void claim_drop(struct claim *c)
{
	for (unsigned i = 0; i < c->nnodes; i++) {
		struct claim_queue *q = c->node[i];

		atomic_store_explicit(&q->cursor,
			atomic_load_explicit(&q->armed, memory_order_relaxed),
			memory_order_relaxed);
	}
}

void claim_close_pass(struct claim *c, uint32_t pass)
{
	// Pairs with the acquire in claim_pass_over(): all of armed is seen with it.
	atomic_store_explicit(&c->closed_passes, pass + 1, memory_order_release);
}

static bool take(struct claim_queue *q, struct span *s)
{
	// Acquire: who moved the cursor here had seen `armed` beyond it, so we do too.
	uint64_t cursor = atomic_load_explicit(&q->cursor, memory_order_acquire);
	uint64_t w;

	do {
		// Pairs with the release in claim_publish().
		if (atomic_load_explicit(&q->armed, memory_order_acquire) == cursor)
			return false;
		w = atomic_load_explicit(&q->ring[cursor % CLAIM_RING], memory_order_relaxed);
		// Release pairs with the acquire in claim_publish(): the slot is free after the
		// read.
	} while (!atomic_compare_exchange_weak_explicit(
		&q->cursor, &cursor, cursor + 1, memory_order_acq_rel, memory_order_acquire));
	unpack(w, s);
	return true;
}

bool claim_take(struct claim *c, unsigned own_node, struct span *s)
{
	unsigned node = own_node < c->nnodes ? own_node : 0;

	for (unsigned i = 0; i < c->nnodes; i++) {
		if (take(c->node[node], s))
			return true;
		node = node + 1 == c->nnodes ? 0 : node + 1;
	}
	return false;
}

bool claim_pass_over(const struct claim *c, uint32_t pass)
{
	// Pairs with the release in claim_close_pass().
	if (atomic_load_explicit(&c->closed_passes, memory_order_acquire) < pass + 1)
		return false;
	for (unsigned i = 0; i < c->nnodes; i++)
		if (atomic_load_explicit(&c->node[i]->armed, memory_order_relaxed) !=
			atomic_load_explicit(&c->node[i]->cursor, memory_order_relaxed))
			return false;
	return true;
}
