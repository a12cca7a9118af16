/* SPDX-License-Identifier: BSD-3-Clause */
/* One vCPU's dirty ring (KVM_CAP_DIRTY_LOG_RING_ACQ_REL): pages that it wrote since they were
 * protected, in order. Knows memory and one call; the kernel, or a test, is behind it.
 *
 * The kernel should stop a vCPU before its ring is full; some stop it late, and then entries are
 * overwritten. That is noticed (all entries are used at once, or the kernel resets fewer than were
 * harvested, or it says "full" when nothing is there to harvest) and told; what was lost is
 * unknown. Afterwards the kernel may write its entries further on than it resets them: the gap is
 * looked for and bridged, so that the ring goes on to work. */
#ifndef GODWIT_KVM_RING_H
#define GODWIT_KVM_RING_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

struct ring {
	struct kvm_dirty_gfn *e; /* shared with the kernel */
	uint32_t size;           /* entries, a power of two */
	uint32_t reset;          /* where the kernel resets next, once it is known; counts up */
	bool known;              /* it is; before, an entry that is used tells */
	uint32_t idle_full;      /* times in a row that it was said to be full and held nothing */
	bool suspect;            /* it overran once: entries may lie beyond a gap */
};

struct ring_io {
	/* A page was written: slot | as_id << 16, and its number in the slot. */
	void (*found)(void *arg, uint32_t slot, uint64_t page);
	/* KVM_RESET_DIRTY_RINGS: write-protects the pages of harvested entries again. Returns how
	 * many entries it reset, or -errno. */
	int (*reset)(void *arg);
	void *arg;
};

/* Harvests all that is there and has it reset. Returns entries harvested; *overran is set to true
 * if writes were lost. -errno of reset. One thread at a time. */
int ring_take(struct ring *r, const struct ring_io *io, bool *overran);

/* The vCPU was stopped because the ring is full: the same, and unlocks a ring that stays full with
 * nothing to harvest. */
int ring_take_full(struct ring *r, const struct ring_io *io, bool *overran);

#endif
