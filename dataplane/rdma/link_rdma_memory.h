/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory that is registered with a device, in pieces: what the thread that registers it tells
 * polling cores. A target's piece is a region, or a window of one that is larger than the device
 * takes, or than may be locked: then they are registered by turns (link_rdma_turns.c). A source's
 * is a window of 256 MiB, of which it has the longest run that is populated: holes stay
 * unregistered, since registering allocates them. */
#ifndef GODWIT_DATAPLANE_LINK_RDMA_MEMORY_H
#define GODWIT_DATAPLANE_LINK_RDMA_MEMORY_H

#include <infiniband/verbs.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "link_rdma.h"

#define RDMA_WINDOW_CHUNKS 1024u
#define RDMA_WINDOW_BYTES  ((uint64_t)RDMA_WINDOW_CHUNKS << CHUNK_SHIFT)
#define RDMA_RUN_LEAST     CHUNK_BYTES /* what is shorter is not worth a registration */

struct rdma_piece {
	uint8_t *base;
	uint64_t bytes;
	struct ibv_mr *mr;  /* thread's, but for reads while it is there */
	_Atomic bool there; /* thread: wo, until the memory's end is asked for */
	uint8_t turn;       /* control only, by turns: whether it was asked for */
};

/* What the thread is to do by turns, and what came of it. */
struct rdma_job {
	uint32_t piece;
	bool want; /* registered; else no more */
	int rc;
};

struct rdma_turns {
	uint64_t window_bytes;
	uint32_t most;         /* pieces registered at a time; 0: all are, from the start */
	uint32_t held;         /* control only: asked for and not dropped */
	uint32_t taken;        /* control only: jobs whose end was told of */
	uint32_t posted;       /* control only */
	struct rdma_job *job;  /* twice as many as most: [taken, posted) */
	_Atomic uint32_t done; /* thread: wo */
};

struct rdma_area {
	uint8_t *base;                /* NULL: not to be registered */
	uint64_t bytes, window_bytes; /* of each piece but the last, which may have less */
	uint32_t window_chunks;       /* of that */
	int fd;                       /* own; -1: a target's */
	uint32_t first;               /* of its pieces */
};

struct link_rdma_memory {
	LIST_ENTRY(link_rdma_memory) next;
	struct link_rdma_domain *domain;
	const struct verbs *v;
	struct region_map *map; /* not for the thread */
	link_rdma_walk walk;    /* source; NULL: target */
	bool on_demand;         /* the device asks for pages, and keeps none */
	struct rdma_area area[REGION_MAX];
	struct rdma_piece *piece;
	unsigned n;
	uint32_t npieces;
	struct rdma_turns turns;
	pthread_t thread;
	sem_t end, leave; /* nothing is to be registered, or a job is; and nobody asks any more */
	bool ending;
	bool mine;                          /* the mappings. control: wo, before leave is posted */
	unsigned failed;                    /* region */
	_Atomic int refused;                /* source: errno that ended the registering; 0: none */
	_Atomic uint64_t bytes, ns, end_ns; /* see struct link_rdma_registered. thread: wo */
	uint64_t now_bytes;                 /* thread only: that are registered now */
	_Atomic bool stop;                  /* control: wo */
	_Atomic int state;  /* or -errno: then nothing is registered. thread: wo, after the rest */
	_Atomic bool ended; /* thread: wo, the last that it does */
};

/* Lcore of a source: the device reads [from, to) of a region, which lies in one chunk, under *lkey.
 * False: not all of it is registered. m: may be NULL. */
static inline bool rdma_memory_read(const struct link_rdma_memory *m, unsigned region,
	uint32_t chunk, const uint8_t *from, const uint8_t *to, uint32_t *lkey)
{
	const struct rdma_area *a;
	const struct rdma_piece *p;

	if (m == NULL || m->area[region].base == NULL)
		return false;
	a = &m->area[region];
	p = &m->piece[a->first + chunk / a->window_chunks];
	/* acquire: pairs with the release of the thread, so that the piece is whole */
	if (!atomic_load_explicit(&p->there, memory_order_acquire) || from < p->base ||
		to > p->base + p->bytes)
		return false;
	*lkey = p->mr->lkey;
	return true;
}

/* link_rdma_memory.c, its thread: one piece. 0 or -errno. */
int rdma_memory_register(struct link_rdma_memory *m, struct rdma_piece *p);
void rdma_memory_deregister(struct link_rdma_memory *m, struct rdma_piece *p);
int rdma_memory_new(struct link_rdma_memory **m, struct link_rdma_domain *domain,
	struct region_map *map, const bool *which, link_rdma_walk walk,
	const struct rdma_turns *turns, struct err *e);

/* link_rdma_turns.c. Before there is a thread. 0 or -ENOMEM. */
int rdma_turns_new(struct link_rdma_memory *m);
/* The thread: waits for a word; does what is asked until it is told to stop. */
void rdma_memory_wait(sem_t *s);
void rdma_turns_work(struct link_rdma_memory *m);

#endif
