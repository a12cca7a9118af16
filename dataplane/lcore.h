/* SPDX-License-Identifier: BSD-3-Clause */
/* Polling cores. A worker lcore runs flow_poll() for each of its flows, of any session. It is
 * parked in EAL's wait state (no polling, no CPU) while it has none. Control thread only, but for
 * the loop itself. */
#ifndef GODWIT_DATAPLANE_LCORE_H
#define GODWIT_DATAPLANE_LCORE_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "flow.h"

enum lcore_idle {
	LCORE_IDLE_POLL,  /* spin with cpu_pause(): the core is Godwit's alone */
	LCORE_IDLE_YIELD, /* yield, then nap, after some empty turns: the core is shared */
};

struct eal_config {
	const char
		*cores;  /* CPUs for worker lcores, one lcore each: "0", "2-5,8"; CPUs may repeat */
	unsigned mem_mb; /* EAL memory; 0: 64 */
	bool huge;       /* ask for huge pages: fail without; else use them if there are some */
	bool no_huge;    /* do without them even where there are some */
	bool telemetry;  /* DPDK's socket for it, see telemetry.h */
	const char *prefix; /* --file-prefix; NULL: "godwit"; may be shared */
	enum lcore_idle idle;
	/* PCI devices that ports are to use, each as port_config.device; the last one NULL. NULL:
	 * none. */
	const char *const *pci;
};

struct eal_info {
	unsigned nlcores;    /* workers */
	bool huge;           /* EAL memory is on huge pages */
	uint64_t page_bytes; /* of EAL's memory */
	char chose[128];     /* a sentence: what was chosen and why */
};

#define EAL_PCI 16u /* devices at most */

/* rte_eal_init with no PCI device but those named, --iova-mode=va; the calling thread becomes the
 * main lcore and keeps its CPU affinity; worker lcores are numbered 1 to nlcores. Once a process.
 * -errno with e set. */
int eal_start(const struct eal_config *c, struct eal_info *info, struct err *e);
void eal_stop(void);

/* The worker with the fewest flows, preferring the NUMA node (or -1). Returns its lcore id. */
unsigned lcore_pick(int node);
/* CPU and NUMA node index of a worker. */
unsigned lcore_cpu(unsigned lcore);
unsigned lcore_node(unsigned lcore);
unsigned lcore_count(void);
/* Workers give way to others: what they do comes late now and then. */
bool lcore_is_shared(void);

/* Hands a flow to flow->lcore. -ENOSPC: that lcore serves LCORE_FLOWS already. */
#define LCORE_FLOWS 64u
int flow_attach(struct flow *f);
/* Sets stop; the flow is free for flow_free() once flow->detached. Does not wait. */
void flow_detach(struct flow *f);
/* Parks workers that have nothing left; call it now and then from the control loop. */
void lcore_park(void);

/* Cycles a worker spent with and without work since start. control: ro */
uint64_t lcore_busy_cycles(unsigned lcore);
uint64_t lcore_idle_cycles(unsigned lcore);

#endif
