/* SPDX-License-Identifier: BSD-3-Clause */
/* The vCPU threads of a VMM, as /proc tells of them. Quick, never waits. */
#ifndef GODWIT_CONTROL_VCPUS_H
#define GODWIT_CONTROL_VCPUS_H

#include <stdint.h>
#include <sys/types.h>

#define VCPUS_MOST 1024u

/* What a thread has used up to a moment. */
struct vcpus_time {
	uint64_t kernel_ns; /* in the kernel, not for the guest; the kernel counts it by 10 ms */
	uint64_t wait_ns;   /* ready to run, and no CPU was free for it */
};

/* Threads that are named as VMMs name vCPUs: "CPU 0/KVM", "fc_vcpu 0". Fills tids, returns how
 * many (most at most); 0 too where the process can't be looked at. */
unsigned vcpus_named(pid_t pid, pid_t *tids, unsigned most);

/* Times of one thread, and when it began (CLOCK_BOOTTIME, ns). 0, or -errno: it has gone, or this
 * kernel does not count (CONFIG_SCHED_INFO). */
int vcpus_time(pid_t pid, pid_t tid, struct vcpus_time *t, uint64_t *born_ns);

/* The same from the text of /proc/PID/task/TID/stat and schedstat; tick_ns: of stat's times. 0 or
 * -EPROTO. See proc(5). */
int vcpus_parse(const char *stat, const char *schedstat, uint64_t tick_ns, struct vcpus_time *t,
	uint64_t *born_ns);

#endif
