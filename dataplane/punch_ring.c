// SPDX-License-Identifier: BSD-3-Clause
// The queue of holes to be made. Producers are polling cores, the consumer is the punch thread.
// Lock-free; a producer that stalls between taking a slot and filling it delays the consumer only.

#include "punch_ring.h"

void punch_ring_init(struct punch *p)
{
	for (uint64_t i = 0; i < PUNCH_RING; i++)
		atomic_init(&p->slot[i].turn, i);
	atomic_init(&p->tail, 0);
	atomic_init(&p->head, 0);
}

bool punch_queue(struct punch *p, uint16_t region, uint64_t page, uint64_t n)
{
	uint64_t at = atomic_load_explicit(&p->tail, memory_order_relaxed);
	struct punch_slot *s;

	for (;;) {
		uint64_t turn;

		s = &p->slot[at % PUNCH_RING];
		// Pairs with the release in punch_ring_finish(): the slot was read before.
		turn = atomic_load_explicit(&s->turn, memory_order_acquire);
		if (turn == at) {
			// Release: who reads this tail as a ticket also sees what led to it.
			if (atomic_compare_exchange_weak_explicit(&p->tail, &at, at + 1,
				    memory_order_release, memory_order_relaxed))
				break;
		} else if (turn < at) {
			return false;
		} else {
			at = atomic_load_explicit(&p->tail, memory_order_relaxed);
		}
	}
	s->hole = (struct punch_hole){.region = region, .page = page, .n = n};
	// Pairs with the acquire in punch_ring_next().
	atomic_store_explicit(&s->turn, at + 1, memory_order_release);
	return true;
}

bool punch_ring_next(struct punch *p, struct punch_hole *h)
{
	uint64_t at = atomic_load_explicit(&p->head, memory_order_relaxed);
	struct punch_slot *s = &p->slot[at % PUNCH_RING];

	// Pairs with the release in punch_queue().
	if (atomic_load_explicit(&s->turn, memory_order_acquire) != at + 1)
		return false;
	*h = s->hole;
	return true;
}

void punch_ring_finish(struct punch *p)
{
	uint64_t at = atomic_load_explicit(&p->head, memory_order_relaxed);

	// Pairs with the acquire in punch_queue(): the slot is free for the next round.
	atomic_store_explicit(
		&p->slot[at % PUNCH_RING].turn, at + PUNCH_RING, memory_order_release);
	// Pairs with the acquire in punch_done(): the hole is there.
	atomic_store_explicit(&p->head, at + 1, memory_order_release);
}

uint64_t punch_ticket(const struct punch *p)
{
	return atomic_load_explicit(&((struct punch *)p)->tail, memory_order_acquire);
}

bool punch_done(const struct punch *p, uint64_t ticket)
{
	return atomic_load_explicit(&((struct punch *)p)->head, memory_order_acquire) >= ticket;
}

int punch_error(const struct punch *p)
{
	return atomic_load_explicit(&((struct punch *)p)->error, memory_order_relaxed);
}
