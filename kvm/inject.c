// SPDX-License-Identifier: BSD-3-Clause
// One system call inside another process. Each try runs on a thread of its own, because only a
// thread's end lets go, for certain, of what it traces.
// Invariant: from the moment on that the registers are changed, the thread can run to its end of
// the chain without us, and is then as it was. Nothing of the process is changed before the whole
// chain is on its stack.

#include "inject.h"

#include "clock.h"
#include "gadget.h"
#include "procmap.h"
#include "sigframe.h"
#include "tracee.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define CODE_64     0x33u       /* selector of 64-bit user code */
#define ROOM        (32u << 10) /* left on the stack below the chain: signals may come */
#define FD_FLAGS    (O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)
#define STACKS_MOST 4096u
#define ROUNDS      5u

/* Mappings that may be a stack, looked up before anything stands still. */
struct stacks {
	unsigned n;
	struct {
		uint64_t start, end;
		bool grows; /* by itself, but not under our hands: that shows when writing */
	} s[STACKS_MOST];
};

/* One try on one thread. */
struct attempt {
	struct inject *i;
	const struct gadgets *g;
	const struct stacks *stacks;
	pid_t tid;
	struct tracee_guard guard;
	struct tracee t;
	struct sigframe_thread was;
	struct sigframe frame;
	int64_t made; /* what userfaultfd returned there */
	int fd;       /* ours */
	int rc;
	struct err *e;
};

static void step(const struct attempt *a, enum inject_step s)
{
	if (a->i->step != NULL)
		a->i->step(a->i->arg, s);
}

static int add_stack(void *arg, const struct procmap *m)
{
	struct stacks *all = arg;

	/* A stack in the heap has neighbours below that are no stack. */
	if (!m->write || m->shared || m->ino != 0 || strcmp(m->path, "[heap]") == 0 ||
		all->n == STACKS_MOST)
		return 0;
	all->s[all->n].start = m->start;
	all->s[all->n].grows = strcmp(m->path, "[stack]") == 0;
	all->s[all->n++].end = m->end;
	return 0;
}

static bool stack_has_room(const struct stacks *all, uint64_t sp)
{
	for (unsigned i = 0; i < all->n; i++)
		if (sp - all->s[i].start < all->s[i].end - all->s[i].start)
			return all->s[i].grows ||
			       sp - all->s[i].start >= SIGFRAME_RED_ZONE + SIGFRAME_BYTES + ROOM;
	return false;
}

/* Whether the thread stands where its registers may be taken away for a moment. */
static int check_place(struct attempt *a)
{
	const struct user_regs_struct *r = &a->was.regs;

	if (r->cs != CODE_64)
		return err_set(a->e, ENOTSUP,
			"process %d runs 32-bit code; only 64-bit VMMs can be tracked from outside",
			(int)a->i->pid);
	if ((int64_t)r->orig_rax < 0 && tracee_in_rseq(&a->t, a->i->pid))
		return -EAGAIN;
	return stack_has_room(a->stacks, r->rsp) ? 0 : -EAGAIN;
}

static int check_filters(struct attempt *a)
{
	const struct {
		int nr;
		uint64_t arg0;
	} calls[] = {{SYS_userfaultfd, FD_FLAGS}, {SYS_close, 3}, {SYS_rt_sigreturn, 0}};

	for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		int rc = tracee_may_call(&a->t, a->g->syscall_ret + 2, calls[i].nr, calls[i].arg0);

		if (rc > 0)
			return err_set(a->e, EPERM,
				"process %d: its seccomp filter forbids userfaultfd (or close, or "
				"rt_sigreturn), and making the call would kill it; allow them in "
				"the VMM's filter, or start it without one",
				(int)a->i->pid);
		if (rc == -EACCES && a->guard.seccomp == 0)
			return 0; /* we may not ask, but have seen that there is none */
		if (rc < 0)
			return err_sys(a->e, -rc,
				"process %d: cannot read its seccomp filters, which may forbid "
				"userfaultfd; run godwitd with CAP_SYS_ADMIN, or start the VMM "
				"without a filter",
				(int)a->i->pid);
	}
	return 0;
}

/* What can be seen of the thread before it stands still. */
static int check_guards(struct attempt *a)
{
	int rc = tracee_guarded(a->i->pid, a->tid, &a->guard);

	if (rc < 0)
		return rc;
	if (a->guard.shadow_stack)
		return err_set(a->e, ENOTSUP,
			"process %d runs with a shadow stack, which the borrowed returns would "
			"offend; start the VMM without (GLIBC_TUNABLES=glibc.cpu.x86_shstk=off)",
			(int)a->i->pid);
	if (a->guard.seccomp == 1)
		return err_set(a->e, EPERM,
			"process %d runs in strict seccomp mode, which forbids userfaultfd",
			(int)a->i->pid);
	return 0;
}

/* The chain: after `syscall` the thread returns from one of these words to the next. */
static int write_chain(struct attempt *a)
{
	const struct gadgets *g = a->g;
	const uint64_t words[] = {g->to_edi_ret, g->pop_rax_ret, SYS_close, g->syscall_ret,
		g->pop_rax_ret, SYS_rt_sigreturn, g->syscall_ret};
	int rc = sigframe_build(&a->frame, &a->was, words, sizeof(words) / sizeof(words[0]));
	struct iovec here = {a->frame.data, a->frame.bytes};
	struct iovec there = {(void *)(uintptr_t)a->frame.addr, a->frame.bytes};

	if (rc < 0)
		return rc;
	if (process_vm_writev(a->i->pid, &here, 1, &there, 1, 0) != (ssize_t)a->frame.bytes)
		return -EAGAIN;
	return 0;
}

/* The registers last: until then the chain is what the thread would do without us. */
static int restore(struct attempt *a)
{
	int rc = tracee_set_mask(&a->t, a->was.sigmask);

	return rc < 0 ? rc : tracee_set_regs(&a->t, &a->was.regs);
}

/* Runs to the next stop of a kind. All signals are blocked, so one that comes is a fault of the
 * chain, which should not be: the thread is put back, and the fault forgotten. */
static int run_to(struct attempt *a, enum tracee_stop kind)
{
	for (unsigned i = 0; i < 64; i++) {
		int rc = tracee_run(&a->t, kind != TRACEE_INTERRUPTED);

		if (rc < 0 || a->t.stop == kind)
			return rc;
		if (a->t.stop == TRACEE_SIGNAL) {
			a->t.sig = 0;
			restore(a);
			return -EPROTO;
		}
	}
	return -EPROTO;
}

static int make(struct attempt *a)
{
	struct user_regs_struct r = a->was.regs;
	int rc;

	r.rip = a->g->syscall_ret;
	r.rsp = a->frame.addr;
	r.rax = SYS_userfaultfd;
	r.orig_rax = (unsigned long)-1; /* nothing to restart */
	r.rdi = FD_FLAGS;
	r.eflags &= ~UINT64_C(0x400); /* the direction flag, as at any call */
	rc = tracee_set_regs(&a->t, &r);
	/* A signal's handler would not see the call that it interrupted, and so lose an EINTR. */
	if (rc == 0)
		rc = tracee_set_mask(&a->t, ~UINT64_C(0));
	if (rc < 0)
		return rc;
	step(a, INJECT_SET);
	rc = run_to(a, TRACEE_ENTRY);
	if (rc < 0)
		return rc;
	step(a, INJECT_ENTERED);
	rc = run_to(a, TRACEE_EXIT);
	if (rc < 0)
		return rc;
	a->made = a->t.value;
	step(a, INJECT_MADE);
	return 0;
}

static void take(struct attempt *a)
{
	if (a->made < 0)
		return;
	a->fd = (int)syscall(SYS_pidfd_getfd, a->i->pidfd, (int)a->made, 0);
	if (a->fd < 0)
		a->rc = err_sys(a->e, errno,
			"process %d: cannot take the userfaultfd out of it (pidfd_getfd)",
			(int)a->i->pid);
	step(a, INJECT_TAKEN);
}

/* Through close, and back to where the thread was. */
static int put_back(struct attempt *a)
{
	int rc = run_to(a, TRACEE_ENTRY);

	if (rc == 0) {
		step(a, INJECT_CLOSING);
		rc = run_to(a, TRACEE_EXIT);
	}
	if (rc == 0) {
		step(a, INJECT_CLOSED);
		rc = tracee_interrupt(&a->t);
	}
	/* Only at such a stop does the kernel look whether a system call is to be restarted. */
	if (rc == 0)
		rc = run_to(a, TRACEE_INTERRUPTED);
	if (rc == 0)
		rc = restore(a);
	if (rc == 0)
		step(a, INJECT_BACK);
	return rc;
}

static int try_thread(struct attempt *a)
{
	uint64_t begin;
	int rc = check_guards(a);

	if (rc < 0)
		return rc;
	begin = clock_ns();
	rc = tracee_seize(&a->t, a->tid, &a->was);
	if (rc < 0)
		return rc;
	step(a, INJECT_STOPPED);
	rc = check_place(a);
	if (rc == 0)
		rc = check_filters(a);
	if (rc == 0)
		rc = tracee_read(&a->t, &a->was);
	if (rc == 0)
		rc = write_chain(a);
	if (rc == 0) {
		step(a, INJECT_WRITTEN);
		rc = make(a);
	}
	if (rc == 0) {
		take(a);
		rc = put_back(a);
	}
	/* On an error in between the thread ends the chain by itself. */
	tracee_leave(&a->t);
	a->i->stopped_ns = clock_ns() - begin;
	a->i->tid = a->tid;
	step(a, INJECT_LEFT);
	return rc;
}

static void *run(void *arg)
{
	struct attempt *a = arg;
	int rc;

	/* The VMM's thread stands still until this one is done; where that is refused it takes as
	 * long as others let it. */
	setpriority(PRIO_PROCESS, (id_t)gettid(), -20);
	rc = try_thread(a);

	if (a->rc == 0)
		a->rc = rc;
	return NULL;
}

/* One try, on a thread that ends. Where e is set, another try won't do better. */
static int attempt(struct attempt *a, pid_t tid)
{
	pthread_t thread;
	int rc;

	a->e->errnum = 0;
	a->tid = tid;
	a->fd = -1;
	a->made = -1;
	a->rc = 0;
	rc = pthread_create(&thread, NULL, run, a);
	if (rc != 0)
		return err_sys(a->e, rc, "cannot start a thread");
	pthread_join(thread, NULL);
	rc = a->rc;
	if (rc == 0 && a->made < 0)
		rc = err_sys(a->e, (int)-a->made,
			"process %d: userfaultfd is refused to it; see that its kernel has it, and "
			"that no security module forbids it",
			(int)a->i->pid);
	if (rc < 0)
		close_fd(&a->fd);
	return rc;
}

/* A round over its threads: one may end, or stand at a bad place. */
static int try_threads(struct attempt *a)
{
	pid_t tids[TRACEE_THREADS];
	int n = tracee_candidates(a->i->pid, tids);
	int rc = -ESRCH;

	if (n < 0)
		return err_sys(a->e, -n, "process %d: cannot see its threads", (int)a->i->pid);
	for (int k = 0; k < n; k++) {
		rc = attempt(a, tids[k]);
		if (rc == 0 || a->e->errnum != 0)
			break;
	}
	return rc;
}

static int try_rounds(struct inject *i, const struct gadgets *g, struct stacks *stacks,
	struct attempt *a, struct err *e)
{
	int rc = -EAGAIN;

	a->i = i;
	a->g = g;
	a->stacks = stacks;
	a->e = e;
	for (unsigned round = 0; round < ROUNDS; round++) {
		stacks->n = 0;
		rc = procmap_walk(i->pid, add_stack, stacks);
		if (rc == 0)
			rc = try_threads(a);
		if (rc == 0)
			return a->fd;
		if (e->errnum != 0)
			return rc;
	}
	if (rc == -EPERM)
		return err_sys(e, EPERM,
			"process %d: ptrace is refused; run godwitd as root or with "
			"CAP_SYS_PTRACE, "
			"set kernel.yama.ptrace_scope below 3, and let no debugger or tracer be "
			"attached to it",
			(int)i->pid);
	return err_sys(e, -rc, "process %d: none of its threads could be stopped at a safe place",
		(int)i->pid);
}

int inject_userfaultfd(struct inject *i, struct err *e)
{
	struct stacks *stacks;
	struct attempt *a;
	struct gadgets g;
	int rc;

	e->errnum = 0;
	rc = gadgets_find(i->pid, &g, e);
	if (rc < 0)
		return rc;
	stacks = malloc(sizeof(*stacks));
	a = calloc(1, sizeof(*a));
	rc = stacks == NULL || a == NULL ? err_set(e, ENOMEM, "out of memory")
					 : try_rounds(i, &g, stacks, a, e);
	free(stacks);
	free(a);
	return rc;
}
