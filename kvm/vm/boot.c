// SPDX-License-Identifier: BSD-3-Clause
// A fresh guest's memory. Run by the main thread before any vCPU; never for an incoming guest.
// Invariant: page tables map guest addresses one to one, so each slot is seen at its own address,
// the alias too.

#include "boot.h"

#include "heap.h"

#include <guest_bin.h> // made from guest.c by the build

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define PTE_PRESENT_WRITE 0x3u
#define PTE_DONE          0x60u /* accessed and dirty already: the CPU need not write them */
#define PTE_BIG           0x80u
#define GIB               (UINT64_C(1) << 30)
#define BIG_PAGE          (UINT64_C(2) << 20)
#define RATE_STEPS        50u /* batches a second that keep a rate smooth */
#define BATCH_MAX         256u

// Tables are laid out one after another: the top, then pointer pages, then a directory a GiB.
static void paging(struct memory *m)
{
	uint64_t high = m->lay.used_bytes - m->lay.low_bytes;
	uint64_t gibs = (GUEST_HIGH + high + GIB - 1) / GIB, pointers = (gibs + 511) / 512;
	uint64_t *top = memory_at(m, GUEST_PAGING), *pointer = top + 512;
	uint64_t *dir = pointer + 512 * pointers;
	uint64_t pointer_gpa = GUEST_PAGING + GUEST_PAGE;
	uint64_t dir_gpa = pointer_gpa + pointers * GUEST_PAGE;
	uint64_t bits = PTE_PRESENT_WRITE | PTE_DONE;

	memset(top, 0, m->lay.paging_pages * GUEST_PAGE);
	for (uint64_t i = 0; i < pointers; i++)
		top[i] = (pointer_gpa + i * GUEST_PAGE) | PTE_PRESENT_WRITE | 0x20;
	for (uint64_t i = 0; i < gibs; i++)
		pointer[i] = (dir_gpa + i * GUEST_PAGE) | PTE_PRESENT_WRITE | 0x20;
	for (uint64_t i = 0; i < gibs * 512; i++)
		dir[i] = (i * BIG_PAGE) | bits | PTE_BIG;
}

/* At first what free pages hold does not matter; the balloon comes first. */
static void heap(struct memory *m, const struct params *p)
{
	uint32_t *table = memory_at(m, p->table_gpa);

	for (unsigned v = 0; v < p->nvcpus; v++) {
		struct loop l;
		uint64_t in;

		loop_init(&l, p, v);
		in = p->heap > 0 ? l.heap_n * p->balloon / p->heap : 0;
		for (uint64_t i = 0; i < l.heap_n; i++)
			table[l.heap_first + i] = i < in ? HEAP_BALLOON : HEAP_JUNK;
	}
}

static uint32_t batch_pages(const struct option_set *o)
{
	uint64_t n = o->rate / o->vcpus / RATE_STEPS;

	if (o->rate == 0 || n > BATCH_MAX)
		return BATCH_MAX;
	return n == 0 ? 1 : (uint32_t)n;
}

int boot_guest(struct memory *m, const struct option_set *o)
{
	struct params *p = memory_at(m, GUEST_PARAMS);
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (memory_fill(m, &o->image, cpus < 1 ? 1 : (unsigned)cpus) < 0)
		return -EINTR;
	layout_params(&m->lay, p);
	p->seed = o->image.seed;
	p->batch = batch_pages(o);
	p->share = o->share;
	p->pattern = o->pattern;
	p->poison = o->poison;
	p->content = o->image.content;
	p->populate = o->image.populate;
	memcpy(memory_at(m, GUEST_CODE), guest_bin, sizeof(guest_bin));
	memset(memory_at(m, GUEST_BLOCKS), 0, (size_t)o->vcpus * GUEST_PAGE);
	paging(m);
	memset(memory_at(m, m->lay.table_gpa), 0, m->lay.table_bytes);
	p->heap = o->free + o->balloon;
	p->churn = o->churn;
	p->balloon = o->balloon;
	heap(m, p);
	return 0;
}
