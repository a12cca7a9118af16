/* SPDX-License-Identifier: BSD-3-Clause */
/* Which CPUs move pages. */
#ifndef GODWIT_CONTROL_CORES_H
#define GODWIT_CONTROL_CORES_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "err.h"

#define CORES_TEXT 256u

struct cores {
	char list[CORES_TEXT];   /* "2-5,8", as eal_start() takes it */
	bool isolated;           /* every one of them was isolated from the scheduler (isolcpus) */
	char shared[CORES_TEXT]; /* those that were not */
	char why[96];            /* what was chosen, for the log */
};

/* asked: what the operator wrote, or "". isolated: the kernel's list, see cores_isolated(). near:
 * CPUs on the NUMA nodes of the ports, see cores_near(); empty where that does not matter.
 * Without a wish: the isolated CPUs that this process may use, those near if there are such; else
 * the last one that it may use, near if there is such, as the first ones are the busiest. -EINVAL
 * with e set: no list, or a CPU that may not be used. */
int cores_choose(struct cores *c, const char *asked, const cpu_set_t *may_use, const char *isolated,
	const cpu_set_t *near, struct err *e);
/* The CPUs of NUMA nodes (bits). */
void cores_near(cpu_set_t *near, uint64_t nodes);

/* "2-5,8" to a set, and back as "2,3,4,5,8". "" is the empty set. -EINVAL: no such list. */
int cores_parse(const char *list, cpu_set_t *set);
void cores_print(const cpu_set_t *set, char list[CORES_TEXT]);

/* Reads the kernel's list of isolated CPUs; "" where there are none. */
void cores_isolated(char list[CORES_TEXT]);

#endif
