// SPDX-License-Identifier: BSD-3-Clause
// Balloon and free pages. Ports are run by vCPU threads, requests by the agent's thread.
// Invariants: a page leaves libgodwit's balloon before the guest's port write is over, so before
// the guest uses it (law 4); a report carries the id that was current when the guest was asked.
//
// --report makes the answers late, partial, repeated, of a wrong id, or none: the migration must be
// whole whatever comes.

#include "hint.h"

#include "clock.h"
#include "heap.h"
#include "plant.h"

#define LATE_NS (300 * NS_PER_MS)

static uint32_t get(const uint32_t *v)
{
	return __atomic_load_n(v, __ATOMIC_ACQUIRE);
}

/* What was in the balloon when the guest booted; what it brought is known already. */
static void inflate_first(struct hint *h, const struct params *p)
{
	const uint32_t *table = memory_at(&h->vm->mem, p->table_gpa);

	for (unsigned v = 0; v < p->nvcpus; v++) {
		struct loop l;

		loop_init(&l, p, v);
		for (uint64_t i = l.heap_first; i < l.heap_first + l.heap_n; i++)
			if (table[i] == HEAP_BALLOON)
				godwit_inflate(h->agent, guest_gpa(p, i) / GUEST_PAGE, 1);
	}
}

void hint_begin(struct hint *h, struct vm *vm, struct godwit *agent)
{
	const struct params *p = memory_at(&vm->mem, GUEST_PARAMS);

	h->vm = vm;
	h->agent = agent;
	godwit_poison(agent, p->poison);
	if (p->balloon == 0)
		return;
	godwit_balloon(agent, !plant(PLANT_LAW4_NEED_NOT_TELL));
	if (!vm->opt.incoming)
		inflate_first(h, p);
}

void hint_request(struct hint *h, uint32_t id)
{
	__atomic_store_n(&h->id, 0, __ATOMIC_RELEASE);
	h->runs = h->ended = 0;
	__atomic_store_n(&h->asked_ns, clock_ns(), __ATOMIC_RELEASE);
	__atomic_store_n(&h->id, id, __ATOMIC_RELEASE);
}

static uint32_t ask_id(struct hint *h)
{
	uint32_t id = get(&h->id);
	uint64_t asked = __atomic_load_n(&h->asked_ns, __ATOMIC_ACQUIRE);

	switch (h->vm->opt.report) {
	case REPORT_NEVER:
		return 0;
	case REPORT_LATE:
		return clock_ns() - asked < LATE_NS ? 0 : id;
	default:
		return id;
	}
}

static void report(struct hint *h, uint64_t pfn, uint64_t n)
{
	uint32_t id = get(&h->id), run = __atomic_fetch_add(&h->runs, 1, __ATOMIC_RELAXED);

	switch (h->vm->opt.report) {
	case REPORT_PART:
		if (run % 2 == 1)
			return;
		break;
	case REPORT_TWICE:
		godwit_free_pages(h->agent, id, pfn, n);
		break;
	case REPORT_STALE:
		id++;
		break;
	default:
		break;
	}
	godwit_free_pages(h->agent, id, pfn, n);
}

static void report_end(struct hint *h)
{
	unsigned n = __atomic_add_fetch(&h->ended, 1, __ATOMIC_ACQ_REL);

	if (n == h->vm->nvcpus && h->vm->opt.report != REPORT_PART)
		godwit_free_end(h->agent, get(&h->id));
}

uint32_t hint_port(struct hint *h, unsigned vcpu, uint16_t port, bool ask)
{
	const struct block *b = memory_at(&h->vm->mem, GUEST_BLOCKS + (uint64_t)vcpu * GUEST_PAGE);
	uint64_t pfn = b->hint_gpa / GUEST_PAGE;

	if (ask)
		return h->agent != NULL && port == PORT_FREE ? ask_id(h) : 0;
	if (h->agent == NULL)
		return 0;
	if (port == PORT_FREE)
		report(h, pfn, b->hint_n);
	else if (port == PORT_FREE_END)
		report_end(h);
	else if (port == PORT_INFLATE)
		godwit_inflate(h->agent, pfn, b->hint_n);
	else if (!plant(PLANT_LAW4_NEED_NOT_TELL)) /* it need not tell, and does not */
		godwit_deflate(h->agent, pfn, b->hint_n);
	return 0;
}
