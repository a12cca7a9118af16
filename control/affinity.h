/* SPDX-License-Identifier: BSD-3-Clause */
/* Cores and a guest: which are near its memory, and which it runs on itself. Control loop only. */
#ifndef GODWIT_CONTROL_AFFINITY_H
#define GODWIT_CONTROL_AFFINITY_H

#include <sched.h>
#include <stdbool.h>
#include <sys/types.h>

#include "region.h"

/* The NUMA node that flow i of n should be on: flows are spread as the memory is that is bound to
 * nodes. -1: none is. */
int affinity_node(const struct region_map *map, unsigned i, unsigned n);

/* May threads of a process run on one of these CPUs? Then text says which, and which thread. */
#define AFFINITY_TEXT 240u
bool affinity_meets(pid_t pid, const cpu_set_t *cpus, char text[AFFINITY_TEXT]);

#endif
