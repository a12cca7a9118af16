/* SPDX-License-Identifier: BSD-3-Clause */
/* Stall: guest vCPU time lost to a migration before the pause. Each vCPU thread's kernel time
 * (write faults, among others) and the time that it waited for a CPU are taken while its writes are
 * tracked, less what the same thread lost at its usual pace, its baseline, before. */
#ifndef GODWIT_CONTROL_STALL_H
#define GODWIT_CONTROL_STALL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vcpus.h"

/* A baseline over less is too coarse: then it is that of the thread's whole life. */
#define STALL_WINDOW_NS UINT64_C(2000000000)

struct stall_vcpu {
	pid_t tid;
	uint64_t born_ns;
	struct vcpus_time first, armed, last;
};

/* Times are CLOCK_BOOTTIME. */
struct stall {
	pid_t pid;
	unsigned n;
	struct stall_vcpu *v;
	uint64_t first_ns; /* the VMM was met */
	uint64_t armed_ns; /* tracking is about to begin; 0: not yet */
	uint64_t last_ns;  /* the last look since; 0: none */
};

struct stall_figures {
	unsigned vcpus; /* that were there all the time */
	uint64_t over_ns;
	uint64_t kernel_ns, wait_ns; /* lost, sums over vCPUs */
	bool whole_life;             /* the baseline is that of the threads' whole life */
};

/* Takes a first look at n threads. Without memory, or any thread to look at, there is no figure. */
void stall_begin(struct stall *s, pid_t pid, const pid_t *tids, unsigned n);
/* Right before tracking begins; once. */
void stall_arm(struct stall *s);
/* Looks again, since the tracking: at a slow pace, and right before the pause. */
void stall_look(struct stall *s);
void stall_fini(struct stall *s);

/* Pure. False: nothing was measured. */
bool stall_figure(const struct stall *s, struct stall_figures *f);

#endif
