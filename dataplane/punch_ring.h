/* SPDX-License-Identifier: BSD-3-Clause */
/* The queue between polling cores and the punch thread: bounded, many producers, one consumer.
 * A slot's turn says whose it is: equal to a position, free for the producer of that position;
 * position + 1, filled for the consumer. Inside punch*.c only. */
#ifndef GODWIT_DATAPLANE_PUNCH_RING_H
#define GODWIT_DATAPLANE_PUNCH_RING_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cpu.h"
#include "punch.h"

#define PUNCH_RING 4096u /* a power of two */

struct punch_hole {
	uint16_t region;
	uint64_t page;
	uint64_t n;
};

struct punch_slot {
	_Atomic uint64_t turn;
	struct punch_hole hole;
};

struct punch {
	/* lcores: rw, thread: ro */
	_Atomic uint64_t tail __cacheline;
	/* thread: wo, lcores: ro */
	_Atomic uint64_t head __cacheline;
	_Atomic int error;
	/* control: wo, thread: ro */
	_Atomic bool stop __cacheline;
	struct region_map *map;
	pthread_t thread;
	struct punch_slot slot[PUNCH_RING] __cacheline;
};

void punch_ring_init(struct punch *p);
/* Thread: takes the next hole; it counts as done only after punch_ring_finish(). */
bool punch_ring_next(struct punch *p, struct punch_hole *h);
void punch_ring_finish(struct punch *p);

#endif
