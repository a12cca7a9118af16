/* SPDX-License-Identifier: BSD-3-Clause */
/* Makes holes in the target's RAM files. A hole is a system call, so lcores queue ranges and one
 * helper thread punches them; a barrier is answered only when all queued before it are done. */
#ifndef GODWIT_DATAPLANE_PUNCH_H
#define GODWIT_DATAPLANE_PUNCH_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "region.h"

struct punch;

/* Starts the thread. map lives as long as the punch. */
int punch_new(struct punch **p, struct region_map *map, struct err *e);
/* Ends the thread; what is still queued is dropped. Nobody may queue any more. A session that ended
 * well has waited for all before. NULL is allowed. */
void punch_free(struct punch *p);

/* Queues pages [page, page + n) of a region to become holes. False when the queue is full: try
 * again later. Several lcores may call it. Never blocks, no system call. */
bool punch_queue(struct punch *p, uint16_t region, uint64_t page, uint64_t n);
/* Ticket of all that was queued so far, and whether it is done. 0: nothing was queued ever. */
uint64_t punch_ticket(const struct punch *p);
bool punch_done(const struct punch *p, uint64_t ticket);
/* Positive errno of the first hole that could not be made, or 0. */
int punch_error(const struct punch *p);

#endif
