/* SPDX-License-Identifier: BSD-3-Clause */
/* Is there memory for the guest that is to come? Asked before anything is touched, so that a lack
 * of it is a clear refusal and no SIGBUS on the way. */
#ifndef GODWIT_CONTROL_RESERVE_H
#define GODWIT_CONTROL_RESERVE_H

#include <stdint.h>

#include "err.h"
#include "region.h"

/* bytes: what the source has populated, of the whole guest. promised: to other sessions of this
 * daemon. Looks at MemAvailable, at the NUMA nodes that regions are bound to, at the memory limit
 * of the control group that this process is in, and at the room of the file system that holds a
 * region. Memory on huge pages was reserved by the VMM when it mapped them. 0 or -ENOMEM with e
 * set. */
int reserve_check(const struct region_map *map, uint64_t bytes, uint64_t promised, struct err *e);

/* Fills in r->node from the memory policy of the mapped region (-1: none binds it to one node). */
void reserve_find_nodes(struct region_map *map);

#endif
