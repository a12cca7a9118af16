/* SPDX-License-Identifier: BSD-3-Clause */
/* What has been armed, for lcores to take. One queue a NUMA node; control publishes spans, lcores
 * claim them through an atomic cursor that never passes what was published. Lock-free, any number
 * of lcores, one publisher.
 *
 * A span is a run of up to SPAN_CHUNKS chunks of one region. Before it is published, control has
 * written taken[] (and hole[], if the span says so) of base/dirty.h for its chunks: the release of
 * `armed` pairs with the claimer's acquire. */
#ifndef GODWIT_DATAPLANE_CLAIM_H
#define GODWIT_DATAPLANE_CLAIM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cpu.h"

#define CLAIM_NODES 8u
#define CLAIM_RING  8192u /* spans published and not claimed, a node; a power of two */
#define SPAN_CHUNKS 16u

struct span {
	uint64_t chunk; /* first, numbered through all regions */
	uint16_t region;
	uint16_t nchunks; /* 1 to SPAN_CHUNKS */
	bool holes;       /* hole[] has bits for these chunks */
};

struct claim_queue {
	_Atomic uint64_t armed __cacheline;  /* control: wo, lcores: ro */
	_Atomic uint64_t cursor __cacheline; /* lcores: rw, control: ro */
	/* Spans, packed into a word each: a claimer that loses the race for a slot may read it
	 * while control writes the next one there. */
	_Atomic uint64_t ring[CLAIM_RING] __cacheline;
};

struct claim {
	unsigned nnodes;
	struct claim_queue *node[CLAIM_NODES];
	/* Passes whose spans are all published. control: wo, lcores: ro */
	_Atomic uint32_t closed_passes __cacheline;
};

/* nnodes from 1 to CLAIM_NODES. 0 or -ENOMEM. */
int claim_init(struct claim *c, unsigned nnodes);
void claim_fini(struct claim *c);

/* Control: publishes up to n spans to a node's queue (node out of range: 0); returns how many. */
unsigned claim_publish(struct claim *c, unsigned node, const struct span *s, unsigned n);
/* Control: spans published and not yet claimed. */
uint64_t claim_backlog(const struct claim *c);
/* Control: the i-th of these that a queue has; 0 will be claimed next, below 0 they were, of late;
 * a lcore may claim meanwhile. False: there are not so many. */
bool claim_peek(const struct claim *c, unsigned node, int64_t i, struct span *s);
/* Control, while no flow is attached: forgets what was published and not claimed. */
void claim_drop(struct claim *c);
/* Control: no more spans come in this pass (passes count from 0). */
void claim_close_pass(struct claim *c, uint32_t pass);

/* Lcore: takes one span, its own node's first, then the others'. False when there is none. */
bool claim_take(struct claim *c, unsigned own_node, struct span *s);
/* Lcore: the pass is closed and all of it claimed; acquire. */
bool claim_pass_over(const struct claim *c, uint32_t pass);

#endif
