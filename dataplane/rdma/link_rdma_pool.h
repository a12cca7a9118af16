/* SPDX-License-Identifier: BSD-3-Clause */
/* A source's view of target memory that is registered by turns, window by window, because not all
 * of it may be locked at a time: which windows are registered, which are to be next, and which may
 * be dropped. A chunk whose window has no key goes through slots, so nobody waits for a window.
 *
 * A window is dropped in three steps: its key is taken back; every lane is seen past that, with all
 * that it sent before completed; then the target is told. Knows no verbs and no session. */
#ifndef GODWIT_DATAPLANE_LINK_RDMA_POOL_H
#define GODWIT_DATAPLANE_LINK_RDMA_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cpu.h"
#include "err.h"
#include "region.h"

#define LINK_RDMA_POOL_LANES 64u
#define LINK_RDMA_POOL_TURN  16u /* windows asked for, and dropped, in one turn, at most */
#define LINK_RDMA_POOL_LEAST 4u  /* windows held at a time; fewer are not worth it */
#define LINK_RDMA_POOL_CHUNK 16u /* chunks of a window, at least: what a lane takes at a time */

/* What the target told of it. */
struct link_rdma_pool_plan {
	uint64_t window_bytes;     /* a power of two */
	uint32_t most;             /* windows that may be held at a time */
	bool there[REGION_MAX];    /* the region has windows */
	uint64_t base[REGION_MAX]; /* of its first byte, as the target's device knows it */
};

struct link_rdma_pool_counts {
	uint64_t asked, dropped, refused; /* windows */
	uint32_t most_held;               /* that had a key at a time */
};

/* What is to be said to the target: first dropped, then wanted. */
struct link_rdma_pool_ask {
	uint32_t want[LINK_RDMA_POOL_TURN], drop[LINK_RDMA_POOL_TURN];
	unsigned nwant, ndrop;
};

struct link_rdma_pool_region {
	uint64_t base;
	uint32_t first, n; /* windows; 0: none */
};

struct link_rdma_pool_lane {
	_Atomic uint32_t done __cacheline; /* lane: wo, control: ro */
};

/* Lane only. */
struct link_rdma_pool_seen {
	uint32_t epoch;
	uint64_t tail; /* sends below may have used keys of an epoch before */
};

struct link_rdma_pool_window {
	uint64_t used; /* turn in which it was last near */
	uint8_t state;
};

struct link_rdma_pool_near {
	uint32_t window, chunks;
};

struct link_rdma_pool {
	/* constant while there are lanes */
	struct link_rdma_pool_region region[REGION_MAX];
	uint32_t n;            /* windows of all regions, numbered through */
	unsigned shift;        /* chunks of one, as a power of two */
	unsigned nlanes;       /* all of them run */
	_Atomic uint64_t *key; /* by window: 0, or KEYED and its rkey. control: wo, lanes: ro */

	/* Grows when keys were taken back. control: wo, lanes: ro */
	_Atomic uint32_t epoch __cacheline;
	struct link_rdma_pool_lane lane[LINK_RDMA_POOL_LANES];

	/* control only */
	struct link_rdma_pool_window *window __cacheline;
	uint32_t *held; /* the windows that are not ABSENT, nheld of them, at most most */
	uint32_t nheld, most, nleaving, nthere;
	uint32_t told; /* most, as the plan has it: fewer after refusals */
	struct link_rdma_pool_near near[LINK_RDMA_POOL_TURN]; /* not held, nearest first */
	unsigned nnear, nseen;
	uint64_t turn, rests; /* the one under way; that from which on windows are asked for */
	struct link_rdma_pool_counts counts;
};

#define LINK_RDMA_POOL_KEYED (UINT64_C(1) << 32)

/* Of the regions of a map. lanes: 1 to LINK_RDMA_POOL_LANES. -EPROTO: the plan is none. */
int link_rdma_pool_new(struct link_rdma_pool **p, const struct region_map *map,
	const struct link_rdma_pool_plan *plan, unsigned lanes, struct err *e);
/* NULL is allowed. */
void link_rdma_pool_free(struct link_rdma_pool *p);
/* No lane runs, and the target has forgotten all windows, too. */
void link_rdma_pool_forget(struct link_rdma_pool *p);

/* One turn of control: what lanes have in hand; what will be sent next, in order, until it returns
 * false; then what is to be said. chunk: of the region. True where ask holds anything. */
void link_rdma_pool_hold(
	struct link_rdma_pool *p, unsigned region, uint64_t chunk, uint32_t nchunks);
bool link_rdma_pool_near(
	struct link_rdma_pool *p, unsigned region, uint64_t chunk, uint32_t nchunks);
bool link_rdma_pool_turn(struct link_rdma_pool *p, struct link_rdma_pool_ask *ask);
/* The target has registered a window that it was asked for, or refuses to: then, after a rest, no
 * more are asked for than are held, but always one. -EPROTO: it was not asked. */
int link_rdma_pool_registered(struct link_rdma_pool *p, uint64_t window, uint32_t rkey);
int link_rdma_pool_refused(struct link_rdma_pool *p, uint64_t window);

/* Lane: where a chunk of a region lies at the target, and under which key. False: it has none. */
static inline bool link_rdma_pool_key(const struct link_rdma_pool *p, unsigned region,
	uint32_t chunk, uint64_t *to, uint32_t *rkey)
{
	const struct link_rdma_pool_region *r = &p->region[region];
	uint32_t i = chunk >> p->shift;
	uint64_t key;

	if (i >= r->n)
		return false;
	/* relaxed: that it was taken back is seen by the acquire in link_rdma_pool_pass() */
	key = atomic_load_explicit(&p->key[r->first + i], memory_order_relaxed);
	*to = r->base + ((uint64_t)chunk << CHUNK_SHIFT);
	*rkey = (uint32_t)key;
	return key != 0;
}

/* Lane, each turn: sends below tail were made with keys that it has read so far, those below freed
 * have completed at the target. */
static inline void link_rdma_pool_pass(struct link_rdma_pool *p, unsigned lane,
	struct link_rdma_pool_seen *s, uint64_t tail, uint64_t freed)
{
	/* acquire: pairs with the release in link_rdma_pool_turn(); from here on no key that was
	 * taken back before is read */
	uint32_t epoch = atomic_load_explicit(&p->epoch, memory_order_acquire);

	if (epoch != s->epoch) {
		s->epoch = epoch;
		s->tail = tail;
	}
	/* release: pairs with the acquire in all_past() */
	if (freed >= s->tail &&
		atomic_load_explicit(&p->lane[lane].done, memory_order_relaxed) != epoch)
		atomic_store_explicit(&p->lane[lane].done, epoch, memory_order_release);
}

#endif
