/* SPDX-License-Identifier: BSD-3-Clause */
/* One system call inside another process: userfaultfd(2), whose descriptor comes out by
 * pidfd_getfd(2) and is closed in the process in the same stop.
 *
 * No code is written into the process. The thread gets, below its red zone, a chain of return
 * addresses that makes the call, closes what it gave, and ends in a signal frame that restores the
 * thread by itself: whatever becomes of us, the thread does that and goes on. While we live we stop
 * it between the two calls to take the descriptor, and put the registers back ourselves, so that an
 * interrupted system call is restarted exactly as after any other stop. */
#ifndef GODWIT_KVM_INJECT_H
#define GODWIT_KVM_INJECT_H

#include <stdint.h>
#include <sys/types.h>

#include "err.h"

/* Steps, told as each is done: tests end the process at one of them. */
enum inject_step {
	INJECT_STOPPED, /* the thread stands still */
	INJECT_WRITTEN, /* the chain is on its stack */
	INJECT_SET,     /* its registers point there */
	INJECT_ENTERED, /* the call's entry */
	INJECT_MADE,    /* the call's exit: the process holds the descriptor */
	INJECT_TAKEN,   /* so do we */
	INJECT_CLOSING, /* the entry of close */
	INJECT_CLOSED,
	INJECT_BACK, /* the registers are as they were */
	INJECT_LEFT,
	INJECT_STEPS
};

struct inject {
	pid_t pid;
	int pidfd;                                      /* of the same process */
	void (*step)(void *arg, enum inject_step step); /* or NULL */
	void *arg;
	uint64_t stopped_ns; /* out: for how long the thread stood still */
	pid_t tid;           /* out: which it was */
};

/* The userfaultfd (O_CLOEXEC), before UFFDIO_API; or -errno with a sentence and its cure in e, as
 * attach_open() says. */
int inject_userfaultfd(struct inject *i, struct err *e);

#endif
