/* SPDX-License-Identifier: BSD-3-Clause */
/* One thread of another process, stopped by ptrace. All by the thread that seized it: when that
 * thread ends, the kernel lets go of what it still holds. */
#ifndef GODWIT_KVM_TRACEE_H
#define GODWIT_KVM_TRACEE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "sigframe.h"

#define TRACEE_THREADS 16u

enum tracee_stop {
	TRACEE_INTERRUPTED, /* by tracee_interrupt, or a stop of the whole process */
	TRACEE_SIGNAL,      /* a signal is about to be delivered: in sig */
	TRACEE_ENTRY,       /* of a system call */
	TRACEE_EXIT,        /* of a system call: its result in value */
	TRACEE_OTHER,
};

struct tracee {
	pid_t tid;
	bool stopped;
	enum tracee_stop stop;
	int sig;
	int64_t value;
};

/* Threads of the process that may be stopped, best first: those asleep in a system call that goes
 * on as if nothing had been; vCPUs last. Their number (TRACEE_THREADS at most) or -errno. */
int tracee_candidates(pid_t pid, pid_t tids[TRACEE_THREADS]);

/* A name that VMMs give to vCPUs' threads. */
bool tracee_named_vcpu(const char *comm);

/* Seizes and interrupts; returns stopped, with the thread's registers in s->regs. 0 or -errno:
 * EPERM, ESRCH, ETIMEDOUT (asleep in the kernel where nothing wakes it). */
int tracee_seize(struct tracee *t, pid_t tid, struct sigframe_thread *s);
/* The rest of what it is. 0 or -errno. */
int tracee_read(const struct tracee *t, struct sigframe_thread *s);
int tracee_set_regs(const struct tracee *t, const struct user_regs_struct *regs);
int tracee_set_mask(const struct tracee *t, uint64_t sigmask);

/* The next stop is one at once, before another instruction of the thread. */
int tracee_interrupt(const struct tracee *t);
/* Lets it run to its next stop, to the next system call's entry or exit where to_syscall. 0 or
 * -errno. */
int tracee_run(struct tracee *t, bool to_syscall);
/* Lets go of it; a signal that it was stopped for is delivered. */
void tracee_leave(struct tracee *t);

/* In a critical section of restartable sequences, perhaps (rseq(2)). */
bool tracee_in_rseq(const struct tracee *t, pid_t pid);

/* How the process guards this thread. 0 or -errno. */
struct tracee_guard {
	int seccomp;  /* 0: not, 1: strict, 2: by filters */
	pid_t tracer; /* 0: none */
	bool shadow_stack;
};
int tracee_guarded(pid_t pid, pid_t tid, struct tracee_guard *g);
/* The same of a text as /proc/PID/status is. */
void tracee_read_guard(const char *status, struct tracee_guard *g);

/* Whether its seccomp filters, if it has any, let this system call pass. 0: they do; 1: not; or
 * -errno where they can't be read. */
int tracee_may_call(const struct tracee *t, uint64_t ip, int nr, uint64_t arg0);

#endif
