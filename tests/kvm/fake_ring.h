/* SPDX-License-Identifier: BSD-3-Clause */
/* A fake of KVM's calls for dirty rings, in memory: linked in place of kvm/ioctl.c. Two vCPUs with
 * a ring each, three slots of one region, and the bitmap beside the rings, which holds what is
 * written without a vCPU and which no x86 kernel offers.
 *
 * What it does follows KVM's API: the bitmap is there where the VMM enabled it (ENXIO otherwise); a
 * get without manual protection clears what it returns and protects those pages; a clear by hand is
 * not needed, and the fake fails the test that calls it. It also plays a VM with manual protection
 * and "initially set", under which pages stay writable when the log goes on, and rings stay empty.
 */
#ifndef FAKE_RING_H
#define FAKE_RING_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/kvm.h>

#include "kvm_ring.h"

#define FAKE_VM_FD 1000 /* nobody's */
#define FAKE_VCPUS 2u
#define FAKE_SLOTS 3u
#define FAKE_PAGES 200u
#define FAKE_WORDS 4u
#define FAKE_ALIAS 2u /* the slot that shows pages of slot 0 once more */

/* A slot shows pages [first, first + n) of the region; the alias begins in mid chunk. */
struct fake_show {
	uint32_t first, n, as_id;
};
extern const struct fake_show fake_shows[FAKE_SLOTS];

struct fake_slot {
	bool on;
	uint64_t dirty[FAKE_WORDS], writable[FAKE_WORDS]; /* by page of the slot */
};

struct fake {
	bool bitmap;    /* the VMM enabled it */
	bool manual;    /* the VMM enabled manual protection, with "initially set" */
	int refuses;    /* errno of taking manual protection away */
	int get_errno;  /* of each get */
	bool lies;      /* gets say that there is no bitmap */
	unsigned takes; /* times that manual protection was taken away */
	struct fake_slot slot[FAKE_SLOTS];
	struct {
		struct kvm_dirty_gfn *e;
		uint32_t dirty, reset;
	} ring[FAKE_VCPUS];
};
extern struct fake fake;
extern struct ring_vcpus fake_vcpus;
extern struct region_map fake_map;

/* cmocka's setup and teardown. */
int fake_make(void **state);
int fake_drop(void **state);

/* A vCPU writes a page of a slot. */
void fake_vcpu_writes(unsigned vcpu, uint32_t slot, uint32_t page);
/* KVM writes it for a device of its own, while no vCPU runs. */
void fake_device_writes(uint32_t slot, uint32_t page);
/* The log of some slot is on. */
bool fake_logs(void);

#endif
