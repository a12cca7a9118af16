/* SPDX-License-Identifier: BSD-3-Clause */
/* KVM memory slots: switches the dirty log of one slot on and off. */
#ifndef GODWIT_KVM_MEMSLOT_H
#define GODWIT_KVM_MEMSLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "region.h"

/* Slot number with its address space, as the KVM calls take it. */
static inline uint32_t memslot_id(const struct view *v)
{
	return v->as_id << 16 | v->slot;
}

/* Sets or clears KVM_MEM_LOG_DIRTY_PAGES on the slot of view v of region r. flags: the slot's other
 * flags. The slot must exist with just these addresses: KVM would move or make it otherwise.
 * 0 or -errno. */
int memslot_log(int vm_fd, const struct region *r, const struct view *v, uint32_t flags, bool on);

#endif
