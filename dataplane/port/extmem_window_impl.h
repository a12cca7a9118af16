/* SPDX-License-Identifier: BSD-3-Clause */
/* What the thread that maps windows (extmem_window.c) and the polling cores that use them share.
 *
 * A core counts its pieces first and looks at the window's state then; the thread withdraws the
 * state first and looks at the counts then. With a full fence between on both sides, one of them
 * sees the other. */
#ifndef GODWIT_DATAPLANE_EXTMEM_WINDOW_IMPL_H
#define GODWIT_DATAPLANE_EXTMEM_WINDOW_IMPL_H

#include <pthread.h>
#include <rte_mbuf.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "extmem_window.h"
#include "port_impl.h"

/* Where a region is, for the device and for others. */
struct extmem_area {
	const uint8_t *seen; /* as the session maps it */
	uint8_t *base;       /* as it is registered; NULL: it is not */
	uint64_t bytes;      /* that windows cover; a multiple of EXTMEM_ALIGN_BYTES */
	uint64_t first;      /* its first window */
	int fd;
	uint32_t page_bytes;
	bool registered;
};

enum extmem_state { EXTMEM_COPIED, EXTMEM_MAPPED, EXTMEM_REFUSED };

struct extmem_window {
	/* set at the start, then read-only */
	struct port *port;
	extmem_window_walk walk;
	unsigned lanes;
	uint64_t window_bytes, nwindows;
	unsigned nareas;
	struct extmem_area area[REGION_MAX]; /* base and registered: the thread's until ready */
	_Atomic uint8_t *state;              /* enum extmem_state. thread: wo, cores: ro */
	/* By lane, [nwindows]: one more than pieces that the device holds. The lane's core adds;
	 * whoever frees a packet takes away. */
	struct rte_mbuf_ext_shared_info **count;

	/* thread only */
	uint64_t left_bytes; /* that may still be locked */
	bool stuck;          /* a window could not be unmapped: its memory stays */
	/* thread: wo, control: ro */
	_Atomic uint64_t mapped_bytes, refused_bytes, holed_bytes;
	_Atomic unsigned discarded, looks;
	_Atomic bool has_why; /* why is whole */
	struct err why;
	uint64_t bytes, small_bytes;
	_Atomic bool ending; /* control: wo */
	_Atomic bool asked;  /* turn is up for a look that has not begun */
	_Atomic bool lost;   /* extmem_window_lost(). cores: wo, thread: ro */
	sem_t turn;
};

/* What a packet holds of a window. */
struct extmem_piece {
	uint8_t *at; /* for the device */
	struct rte_mbuf_ext_shared_info *count;
};

/* Lcore: the window that [at, at + bytes) lies in, all of it; false: in none. */
static inline bool extmem_window_find(const struct extmem_window *w, unsigned lane, const void *at,
	size_t bytes, struct extmem_piece *p, uint64_t *window)
{
	for (unsigned i = 0; i < w->nareas; i++) {
		const struct extmem_area *a = &w->area[i];
		uint64_t off = (uint64_t)((uintptr_t)at - (uintptr_t)a->seen);

		if (off >= a->bytes)
			continue;
		*window = a->first + off / w->window_bytes;
		p->at = a->base + off;
		p->count = &w->count[lane][*window];
		return bytes <= w->window_bytes - off % w->window_bytes && bytes <= a->bytes - off;
	}
	return false;
}

static inline void extmem_window_give(const struct extmem_piece *p, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		rte_mbuf_ext_refcnt_update(p[i].count, -1);
}

/* Lcore of that lane: counts these n pieces, PORT_SEGS at most, as the device's. False: one of them
 * is not mapped, and none is counted. */
static inline bool extmem_window_take(const struct extmem_window *w, unsigned lane,
	const struct iovec *seg, unsigned n, struct extmem_piece *p)
{
	uint64_t window[PORT_SEGS];
	bool mapped = true;
	unsigned i;

	for (i = 0; i < n; i++) {
		if (!extmem_window_find(
			    w, lane, seg[i].iov_base, seg[i].iov_len, &p[i], &window[i]))
			break;
		rte_mbuf_ext_refcnt_update(p[i].count, 1);
	}
	atomic_thread_fence(memory_order_seq_cst);
	for (unsigned k = 0; k < i; k++)
		mapped &= atomic_load_explicit(&w->state[window[k]], memory_order_acquire) ==
			  EXTMEM_MAPPED;
	if (mapped && i == n)
		return true;
	extmem_window_give(p, i);
	return false;
}

/* Lcore: a driver's turn was left in its middle, so nobody knows which of the pieces it was given
 * will be let go of. What is not back by then stays mapped, and is not waited for. */
static inline void extmem_window_lost(struct extmem_window *w)
{
	atomic_store_explicit(&w->lost, true, memory_order_relaxed);
}

/* Lcore of that lane: the device has let go of all that was counted. */
static inline bool extmem_window_is_back(const struct extmem_window *w, unsigned lane)
{
	for (uint64_t i = 0; i < w->nwindows; i++)
		if (rte_mbuf_ext_refcnt_read(&w->count[lane][i]) != 1)
			return false;
	return true;
}

#endif
