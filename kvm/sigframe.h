/* SPDX-License-Identifier: BSD-3-Clause */
/* A signal frame of x86-64, made by hand from a stopped thread's registers: when the thread calls
 * rt_sigreturn with its stack pointer at the frame's context, the kernel gives it all of them back.
 */
#ifndef GODWIT_KVM_SIGFRAME_H
#define GODWIT_KVM_SIGFRAME_H

#include <stdint.h>
#include <sys/user.h>

#define SIGFRAME_XSTATE_MOST 16384u /* AMX, the largest today, takes 11 KiB */
#define SIGFRAME_WORDS_MOST  16u
#define SIGFRAME_BYTES       (SIGFRAME_XSTATE_MOST + 2048u)
#define SIGFRAME_RED_ZONE    128u /* below the stack pointer: the thread's own */

/* What a stopped thread is. */
struct sigframe_thread {
	struct user_regs_struct regs;
	uint64_t sigmask;
	uint32_t xstate_bytes; /* of what NT_X86_XSTATE gave */
	uint8_t xstate[SIGFRAME_XSTATE_MOST] __attribute__((aligned(64)));
};

/* Bytes for the thread's stack, and where they belong. */
struct sigframe {
	uint64_t addr; /* where they begin: the words */
	uint32_t bytes;
	uint8_t data[SIGFRAME_BYTES];
};

/* Whether an interrupted system call is to be called again, as the kernel would do by itself. */
int sigframe_restarts(const struct user_regs_struct *regs);

/* Builds it below the thread's red zone: n words, then the context that rt_sigreturn takes. What
 * comes back is the thread as it was; where it was in a system call that the kernel would have
 * restarted, just before that. 0, or -E2BIG: more registers than there is room for; -EPROTO: xstate
 * is none. */
int sigframe_build(
	struct sigframe *f, const struct sigframe_thread *t, const uint64_t *words, unsigned n);

#endif
