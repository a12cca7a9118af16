// SPDX-License-Identifier: BSD-3-Clause
// One dirty ring. Run by the agent's thread and by vCPU threads, one at a time (kvm_ring.c locks).
//
// An entry's flags go 0 -> DIRTY (kernel) -> RESET (here) -> 0 (kernel, when asked to reset). The
// kernel appends at its own index and resets in order, from an index that we can count along:
// ring_take() harvests from there and has all of it reset before it returns, so the two are the
// same between calls.
// Invariant (law 1): an entry's page is told before its entry is reset, which protects the page
// again; a write that no entry holds any more is reported as an overrun.

#include "ring.h"

#include <errno.h>

#define RESET_TRIES 16u /* a signal makes the kernel stop early, a few times at most */
#define BACK_TRIES  4u

static struct kvm_dirty_gfn *entry(const struct ring *r, uint32_t at)
{
	return &r->e[at & (r->size - 1)];
}

/* acquire: pairs with the kernel's release of the flags; slot and offset are read after it. */
static uint32_t flags_of(const struct ring *r, uint32_t at)
{
	return __atomic_load_n(&entry(r, at)->flags, __ATOMIC_ACQUIRE);
}

/* release: pairs with the kernel's acquire in reset; it reads slot and offset after ours. */
static void set_harvested(struct ring *r, uint32_t at)
{
	__atomic_store_n(&entry(r, at)->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
}

/* A ring that somebody harvested before, such as a source that was closed, goes on where that one
 * left off. Where is seen by the first entry of those that are used: the kernel fills in order, so
 * whatever lies before one that was seen used shows it on a second look. */
static bool find_start(struct ring *r)
{
	uint32_t at = 0;

	while (at < r->size && flags_of(r, at) == 0)
		at++;
	if (at == r->size)
		return false;
	for (uint32_t n = 0; n < r->size && flags_of(r, at - 1) != 0; n++)
		at--;
	r->reset = at;
	return true;
}

/* Entries from `at` on that are not used, before one that is; 0: none of the next `limit` is used.
 * The kernel fills in order, so one seen used means that those before it, if they are to be used,
 * show it on a second look. */
static uint32_t gap_at(const struct ring *r, uint32_t at, uint32_t limit)
{
	uint32_t n = 0;

	while (n < limit && flags_of(r, at + n) == 0)
		n++;
	if (n == limit)
		return 0;
	for (uint32_t i = 0; i < n; i++)
		if (flags_of(r, at + i) != 0)
			return i;
	return n;
}

/* Has n harvested entries reset. Returns how many were. */
static int reset_entries(struct ring *r, const struct ring_io *io, uint32_t n)
{
	uint32_t got = 0;

	for (unsigned i = 0; i < RESET_TRIES && got < n; i++) {
		int rc = io->reset(io->arg);

		if (rc < 0)
			return rc;
		got += (uint32_t)rc;
		if (rc > 0)
			i = 0;
	}
	r->reset += got;
	return (int)got;
}

/* The start that was found is not where the kernel resets: whoever harvested before left the ring
 * after an overrun, so the kernel resets from further back than it fills. Entries before the start
 * are given back one by one until it finds one of them; more would take it past what it filled.
 * They are old pages once more, which does no harm. n: harvested from the start on. */
static int reset_from_further_back(struct ring *r, const struct ring_io *io, uint32_t n)
{
	for (uint32_t back = 1; back <= r->size - n; back++) {
		int rc = 0;

		set_harvested(r, r->reset - back);
		for (unsigned i = 0; i < BACK_TRIES && rc == 0; i++)
			rc = io->reset(io->arg);
		if (rc < 0)
			return rc;
		if (rc > 0) {
			r->reset += (uint32_t)rc - back;
			return reset_entries(r, io, back + n - (uint32_t)rc);
		}
	}
	return 0;
}

int ring_take(struct ring *r, const struct ring_io *io, bool *overran)
{
	uint32_t n = 0, found = 0;
	bool fresh = !r->known;
	int got, rc = 0;

	if (fresh)
		r->known = find_start(r);
	while (r->known && n < r->size) {
		uint32_t at = r->reset + n, flags = flags_of(r, at);

		if (flags == 0) {
			uint32_t gap = r->suspect ? gap_at(r, at, r->size - n) : 0;

			if (gap == 0 && flags_of(r, at) == 0)
				break;
			/* Old pages once more: protecting them does no harm. */
			for (; gap > 0; gap--, n++)
				set_harvested(r, r->reset + n);
			continue;
		}
		if ((flags & KVM_DIRTY_GFN_F_RESET) == 0) {
			const struct kvm_dirty_gfn *e = entry(r, at);

			io->found(io->arg, e->slot, e->offset);
			set_harvested(r, at);
			found++;
		}
		n++;
	}
	if (n == 0)
		return 0;
	r->idle_full = 0;
	got = reset_entries(r, io, n);
	if (got == 0 && fresh)
		rc = reset_from_further_back(r, io, n);
	if (got < 0 || rc < 0)
		return got < 0 ? got : rc;
	/* A ring that works never uses all its entries. Fewer reset: some were written again. */
	if (n == r->size || (uint32_t)got != n) {
		r->suspect = true;
		*overran = true;
	}
	return (int)found;
}

int ring_take_full(struct ring *r, const struct ring_io *io, bool *overran)
{
	uint32_t n = r->size / 4;
	int rc = ring_take(r, io, overran);

	/* Once is no sign: another thread may have emptied it just before. Twice in a row the
	 * kernel counts entries that are gone; they are more than it keeps free, so a quarter of
	 * the ring can be given back to it. */
	if (rc != 0 || ++r->idle_full < 2)
		return rc;
	r->idle_full = 0;
	r->suspect = true;
	*overran = true;
	for (uint32_t i = 0; i < n; i++)
		set_harvested(r, r->reset + i);
	rc = reset_entries(r, io, n);
	return rc < 0 ? rc : 0;
}
