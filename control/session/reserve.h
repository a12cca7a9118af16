/* SPDX-License-Identifier: BSD-3-Clause */
/* Is there memory for the guest that is to come? Asked before anything is touched, so that a lack
 * of it is a clear refusal and no SIGBUS on the way. */
#ifndef GODWIT_CONTROL_RESERVE_H
#define GODWIT_CONTROL_RESERVE_H

#include <stdint.h>

#include "err.h"
#include "region.h"

/* bytes: what the guest will populate, of the whole of it. promised: to other sessions of this
 * daemon, not on huge pages. Looks at MemAvailable, at the NUMA nodes that regions are bound to, at
 * the memory limit of the control group that this process is in, at the room of the file system
 * that holds a region, and at free huge pages. What the files hold already counts as there. A look,
 * and no more: memory that something else takes later is missing then; reserve=populate takes it
 * for certain. 0 or -ENOMEM with e set. */
int reserve_check(const struct region_map *map, uint64_t bytes, uint64_t promised, struct err *e);

/* What of that is still to be taken of this host's memory: not on huge pages, not in the files yet.
 */
uint64_t reserve_booking(const struct region_map *map, uint64_t bytes);

/* Fills in r->node from the memory policy of the mapped region (-1: none binds it to one node). */
void reserve_find_nodes(struct region_map *map);

#endif
