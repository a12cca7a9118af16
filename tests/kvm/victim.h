/* SPDX-License-Identifier: BSD-3-Clause */
/* A process of one thread that goes round a system call, and notices if anything of it changed that
 * it did not change itself: its registers, its vectors, the call's result, its signal mask. */
#ifndef GODWIT_TESTS_VICTIM_H
#define GODWIT_TESTS_VICTIM_H

#include <stdint.h>
#include <sys/types.h>

enum victim_kind {
	VICTIM_NANOSLEEP,
	VICTIM_POLL,
	VICTIM_PPOLL, /* with a signal mask of its own */
	VICTIM_FUTEX,
	VICTIM_READ,
	VICTIM_EPOLL, /* may return EINTR */
	VICTIM_SPIN,  /* in no system call */
	VICTIM_KINDS
};

/* Written by the victim. */
struct victim_page {
	uint64_t rounds;
	uint64_t wrong;
	char what[64]; /* the first that was wrong */
	uint64_t signals;
};

struct victim {
	pid_t pid;
	int pidfd;
	int pipe[2];
	volatile struct victim_page *page;
};

/* prepare: run in the victim first, or NULL. 0 or -errno. */
int victim_start(struct victim *v, enum victim_kind kind, void (*prepare)(void));
void victim_stop(struct victim *v);
/* Waits until it went round n times more: 0, or -1 (it ended, or hangs). */
int victim_rounds(struct victim *v, unsigned n);
/* Open descriptors of the process. */
int victim_fds(pid_t pid);
/* Who traces it: 0 for nobody. */
int victim_tracer(pid_t pid);

#endif
