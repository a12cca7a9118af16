/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory that a port's device reads by DMA: registered with DPDK and mapped for the device,
 * window by window, by a thread of its own. For devices that read a packet after they said that
 * they took it; pages of a window that is not mapped are copied into packets.
 *
 * A mapped page is pinned. Were it punched and filled again, the device would go on reading the old
 * frame, and no look at holes shows that. So this is only for memory that its VMM does not discard:
 * whoever calls extmem_window_new() knows that. Control thread, all functions. */
#ifndef GODWIT_DATAPLANE_EXTMEM_WINDOW_H
#define GODWIT_DATAPLANE_EXTMEM_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "port.h"
#include "region.h"

#define EXTMEM_WINDOW_BYTES (UINT64_C(64) << 20)
#define EXTMEM_ALIGN_BYTES  (UINT64_C(2) << 20)

/* Calls run for each populated extent of the file's [offset, offset + len), in order, until that
 * returns another value than 0, and returns it; at the cost of this range, wherever the next hole
 * is. It is called by another thread. */
typedef int (*extmem_window_walk)(int fd, uint64_t offset, uint64_t len,
	int (*run)(void *arg, uint64_t offset, uint64_t bytes), void *arg);

struct extmem_window_config {
	struct port *port;            /* not closed before all is unmapped: port_close() waits */
	const struct region_map *map; /* mapped, with fds open for writing, which are duplicated */
	unsigned lanes;               /* flows; each has counts of its own */
	extmem_window_walk walk;
	uint64_t window_bytes; /* multiple of EXTMEM_ALIGN_BYTES; 0: EXTMEM_WINDOW_BYTES */
	const char *root;      /* where /proc is; NULL: "" */
};

struct extmem_window_info {
	uint64_t bytes, mapped_bytes; /* of the guest's memory; what the device reads by itself */
	uint64_t holed_bytes;         /* of windows with holes and memory, as of the last look */
	uint64_t small_bytes;         /* of regions, or their ends, less than a window can be */
	uint64_t refused_bytes;       /* could not be mapped: why says the first reason */
	unsigned discarded;           /* windows in which a hole came up while they were mapped */
	unsigned looks;               /* how often all windows were looked at */
	struct err why;
};

struct extmem_window;

/* Begins to map the windows whose memory is all there. 0 or -errno with e set. */
int extmem_window_new(
	struct extmem_window **w, const struct extmem_window_config *c, struct err *e);
/* Has the thread look at all windows again: what has got holes is unmapped once the device has let
 * go of it, and what is whole now is mapped. Does not wait; looks that have not begun are one. */
void extmem_window_look(struct extmem_window *w);
void extmem_window_info(struct extmem_window *w, struct extmem_window_info *i);
/* No link uses it any more. Each window is unmapped as soon as the device has let go of its pages;
 * the thread then frees all. Does not wait. NULL is allowed. */
void extmem_window_free(struct extmem_window *w);

#endif
