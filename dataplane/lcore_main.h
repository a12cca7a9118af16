/* SPDX-License-Identifier: BSD-3-Clause */
/* What lcore.c (control's side) and lcore_main.c (the polling loop) share. */
#ifndef GODWIT_DATAPLANE_LCORE_MAIN_H
#define GODWIT_DATAPLANE_LCORE_MAIN_H

#include "cpulist.h"
#include "lcore.h"

/* Who runs a worker. Control asks, the worker answers; each step is one compare-and-swap, so a flow
 * that is attached while the worker is about to park is seen by one of the two. */
enum lcore_run {
	LCORE_PARKED, /* in EAL's wait state, or on its way there: control may launch it */
	LCORE_RUNNING,
	LCORE_PARK_ASKED, /* control: park when nothing is left */
};

struct lcore {
	/* set at start, then read-only */
	unsigned id, cpu, node;
	enum lcore_idle idle;
	struct rte_ring *mailbox; /* flows for this worker; control: producer, worker: consumer */

	_Atomic int run __cacheline; /* enum lcore_run; control and worker: rw */
	unsigned attached;           /* flows ever attached. control only */

	/* worker: wo, control: ro */
	_Atomic unsigned released __cacheline; /* flows ever let go */
	_Atomic uint64_t busy_cycles, idle_cycles;

	/* worker only */
	struct flow *flow[LCORE_FLOWS] __cacheline;
	unsigned nflows;
	uint64_t window_cycles, window_busy_cycles; /* since links were told how busy it is */
};

/* The worker's loop, for rte_eal_remote_launch(). arg is its struct lcore. */
int lcore_main(void *arg);

/* By eal.c. Workers 1 to n on these CPUs. 0 or -errno. */
int lcore_setup(const unsigned *cpu, unsigned n, enum lcore_idle idle, struct err *e);
void lcore_teardown(void);

#endif
