// SPDX-License-Identifier: BSD-3-Clause
// One stopped thread of another process, by ptrace(2). Run by the attaching thread.
// Invariant: waits have a deadline. Where one passes, the caller ends its thread, and the kernel
// detaches: a thread that sleeps where nothing wakes it can't be detached otherwise.

#include "tracee.h"

#include "clock.h"
#include "sysfilter.h"

#include <elf.h>
#include <errno.h>
#include <linux/audit.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#define SYSCALL_STOP (SIGTRAP | 0x80)
#define EVENT_STOP   128            /* PTRACE_EVENT_STOP */
#define DEADLINE_NS  (2 * NS_PER_S) /* on a crowded host a thread waits for its turn */
#define BUSY_NS      (200 * NS_PER_US)
#define FILTER_MOST  64

static long call(long request, pid_t tid, unsigned long addr, void *data)
{
	long rc = ptrace((enum __ptrace_request)request, tid, addr, data);

	return rc < 0 ? -errno : rc;
}

static void classify_trap(struct tracee *t)
{
	struct __ptrace_syscall_info info = {0};

	t->stop = TRACEE_OTHER;
	if (call(PTRACE_GET_SYSCALL_INFO, t->tid, sizeof(info), &info) < 0)
		return;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
		t->stop = TRACEE_ENTRY;
	if (info.op == PTRACE_SYSCALL_INFO_EXIT) {
		t->stop = TRACEE_EXIT;
		t->value = info.exit.rval;
	}
}

static int classify(struct tracee *t, int status)
{
	if (!WIFSTOPPED(status))
		return -ESRCH; /* the thread, and perhaps the VMM, ended */
	t->stopped = true;
	t->sig = 0;
	if (status >> 16 == EVENT_STOP) {
		t->stop = TRACEE_INTERRUPTED;
	} else if (WSTOPSIG(status) == SYSCALL_STOP) {
		classify_trap(t);
	} else {
		t->stop = TRACEE_SIGNAL;
		t->sig = WSTOPSIG(status);
	}
	return 0;
}

static int wait_stop(struct tracee *t)
{
	const struct timespec nap = {0, 20000};
	uint64_t begin = clock_ns();
	int status;
	pid_t got;

	while ((got = waitpid(t->tid, &status, __WALL | WNOHANG)) <= 0) {
		uint64_t waited = clock_ns() - begin;

		if (got < 0 && errno != EINTR)
			return errno == ECHILD ? -ESRCH : -errno;
		if (waited > DEADLINE_NS)
			return -ETIMEDOUT;
		if (waited < BUSY_NS)
			sched_yield();
		else
			nanosleep(&nap, NULL);
	}
	return classify(t, status);
}

int tracee_seize(struct tracee *t, pid_t tid, struct sigframe_thread *s)
{
	int rc;

	memset(t, 0, sizeof(*t));
	t->tid = tid;
	rc = (int)call(PTRACE_SEIZE, tid, 0, (void *)(uintptr_t)PTRACE_O_TRACESYSGOOD);
	if (rc == 0)
		rc = tracee_interrupt(t);
	if (rc == 0)
		rc = wait_stop(t);
	/* A signal came first: it is delivered, and the stop comes with the first instruction of
	 * its handler. */
	for (unsigned i = 0; rc == 0 && t->stop != TRACEE_INTERRUPTED; i++)
		rc = i < 64 ? tracee_run(t, false) : -ETIMEDOUT;
	if (rc == 0)
		rc = (int)call(PTRACE_GETREGS, tid, 0, &s->regs);
	if (rc < 0)
		tracee_leave(t);
	return rc;
}

int tracee_read(const struct tracee *t, struct sigframe_thread *s)
{
	struct iovec v = {s->xstate, sizeof(s->xstate)};
	int rc = (int)call(PTRACE_GETREGSET, t->tid, NT_X86_XSTATE, &v);

	s->xstate_bytes = (uint32_t)v.iov_len;
	if (rc == 0)
		rc = (int)call(PTRACE_GETSIGMASK, t->tid, sizeof(s->sigmask), &s->sigmask);
	return rc;
}

int tracee_set_regs(const struct tracee *t, const struct user_regs_struct *regs)
{
	return (int)call(PTRACE_SETREGS, t->tid, 0, (void *)(uintptr_t)regs);
}

int tracee_set_mask(const struct tracee *t, uint64_t sigmask)
{
	return (int)call(PTRACE_SETSIGMASK, t->tid, sizeof(sigmask), &sigmask);
}

int tracee_interrupt(const struct tracee *t)
{
	return (int)call(PTRACE_INTERRUPT, t->tid, 0, NULL);
}

int tracee_run(struct tracee *t, bool to_syscall)
{
	int rc = (int)call(
		to_syscall ? PTRACE_SYSCALL : PTRACE_CONT, t->tid, 0, (void *)(uintptr_t)t->sig);

	t->stopped = false;
	return rc < 0 ? rc : wait_stop(t);
}

void tracee_leave(struct tracee *t)
{
	if (t->stopped)
		call(PTRACE_DETACH, t->tid, 0, (void *)(uintptr_t)t->sig);
	t->stopped = false;
}

bool tracee_in_rseq(const struct tracee *t, pid_t pid)
{
	struct __ptrace_rseq_configuration c = {0};
	uint64_t section = 1;
	struct iovec here = {&section, sizeof(section)};
	struct iovec there;

	if (call(PTRACE_GET_RSEQ_CONFIGURATION, t->tid, sizeof(c), &c) < 0)
		return true;
	if (c.rseq_abi_pointer == 0)
		return false;
	/* The third field of struct rseq, rseq_cs. */
	there = (struct iovec){(void *)(uintptr_t)(c.rseq_abi_pointer + 8), sizeof(section)};
	return process_vm_readv(pid, &here, 1, &there, 1, 0) != sizeof(section) || section != 0;
}

int tracee_may_call(const struct tracee *t, uint64_t ip, int nr, uint64_t arg0)
{
	const struct seccomp_data data = {
		.nr = nr, .arch = AUDIT_ARCH_X86_64, .instruction_pointer = ip, .args = {arg0}};

	for (unsigned long i = 0; i < FILTER_MOST; i++) {
		struct sock_filter code[BPF_MAXINSNS];
		long n = call(PTRACE_SECCOMP_GET_FILTER, t->tid, i, NULL);

		if (n == -ENOENT || (n == -EINVAL && i == 0))
			return 0; /* no more, or none at all */
		if (n > BPF_MAXINSNS)
			n = -E2BIG;
		if (n > 0)
			n = call(PTRACE_SECCOMP_GET_FILTER, t->tid, i, code);
		if (n < 0)
			return (int)n;
		if (!sysfilter_passes(sysfilter_run(code, (unsigned)n, &data)))
			return 1;
	}
	return -E2BIG;
}
