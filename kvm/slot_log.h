/* SPDX-License-Identifier: BSD-3-Clause */
/* The dirty log of one view (one KVM slot): what it reported and was not cleared. Slot pages are
 * numbered from the slot's start, which may be any page of its region; words in and out are the
 * region's, one a chunk. */
#ifndef GODWIT_KVM_SLOT_LOG_H
#define GODWIT_KVM_SLOT_LOG_H

#include <stdint.h>

#include "region.h"

struct slot_log {
	int vm_fd;
	uint32_t id;         /* slot | as_id << 16 */
	uint64_t first_page; /* of the region, that the slot's page 0 shows */
	uint64_t npages;
	uint64_t nwords;
	uint64_t *seen;  /* the kernel's bitmap at the last get, less what was cleared since */
	uint64_t *clear; /* scratch of one clear call */
};

int slot_log_init(struct slot_log *s, int vm_fd, const struct view *v);
void slot_log_fini(struct slot_log *s);

/* KVM_GET_DIRTY_LOG into seen. 0 or -errno. */
int slot_log_get(struct slot_log *s);

/* words[chunk] |= seen; returns bits that words did not have before. */
int64_t slot_log_show(const struct slot_log *s, uint64_t *words);

/* Clears in the kernel those pages of chunks [first, first + n) that are in want (indexed from
 * first) and in seen, and only those (law 1). 0 or -errno. */
int slot_log_clear(struct slot_log *s, uint64_t first, uint64_t n, const uint64_t *want);

/* Forgets what was seen. */
void slot_log_forget(struct slot_log *s);

#endif
