// SPDX-License-Identifier: BSD-3-Clause
// The victim. Its system call stands between two saves of all that XSAVE knows, in one asm block.

#include "victim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAVE_BYTES 16384
#define HEADER     512
#define NAP_NS     3000000

static uint8_t before[SAVE_BYTES] __attribute__((aligned(64)));
static uint8_t after[SAVE_BYTES] __attribute__((aligned(64)));
static volatile struct victim_page *own;

static void wrong(const char *what)
{
	if (__atomic_fetch_add(&own->wrong, 1, __ATOMIC_SEQ_CST) == 0)
		snprintf((char *)own->what, sizeof(own->what), "%s", what);
}

static void on_signal(int sig)
{
	(void)sig;
	__atomic_fetch_add(&own->signals, 1, __ATOMIC_SEQ_CST);
}

/* The call, all registers filled, x87 to AVX-512 (0xe7) saved on both sides; true when they are the
 * same afterwards. The words just below the stack pointer are the red zone: they are filled too. */
__attribute__((noinline)) static long guarded_call(
	long nr, long a, long b, long c, long d, long e, int *same)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r12 __asm__("r12") = 0x1212121212121212;
	register long r13 __asm__("r13") = 0x1313131313131313;
	register long r14 __asm__("r14") = (long)before;
	register long r15 __asm__("r15") = (long)after;
	long ret = nr, rbx = 0x0b0b0b0b0b0b0b0b;

	__asm__ volatile("subq $512, %%rsp\n\t"
			 "movq %%r12, %%xmm0\n\t"
			 "movq %%r13, %%xmm15\n\t"
			 "pshufd $0, %%xmm15, %%xmm7\n\t"
			 "fldpi\n\t"
			 "movq %%r12, -128(%%rsp)\n\t"
			 "movq %%r13, -8(%%rsp)\n\t"
			 "movq %%rax, %%r9\n\t"
			 "movq %%rdx, %%rcx\n\t"
			 "xorl %%edx, %%edx\n\t"
			 "movl $0xe7, %%eax\n\t"
			 "xsave64 (%%r14)\n\t"
			 "movq %%rcx, %%rdx\n\t"
			 "movq %%r9, %%rax\n\t"
			 "syscall\n\t"
			 "cmpq %%r12, -128(%%rsp)\n\t"
			 "jne 1f\n\t"
			 "cmpq %%r13, -8(%%rsp)\n\t"
			 "je 2f\n\t"
			 "1: xorl %%ebx, %%ebx\n\t"
			 "2: movq %%rax, %%r9\n\t"
			 "xorl %%edx, %%edx\n\t"
			 "movl $0xe7, %%eax\n\t"
			 "xsave64 (%%r15)\n\t"
			 "movq %%r9, %%rax\n\t"
			 "fstp %%st(0)\n\t"
			 "addq $512, %%rsp\n\t"
			 : "+a"(ret), "+b"(rbx), "+r"(r12), "+r"(r13), "+r"(r14), "+r"(r15),
			 "+r"(r10), "+r"(r8), "+D"(a), "+S"(b), "+d"(c)
			 :
			 : "rcx", "r9", "r11", "memory", "cc", "xmm0", "xmm7", "xmm15");
	*same = rbx == 0x0b0b0b0b0b0b0b0b && r12 == 0x1212121212121212 &&
		r13 == 0x1313131313131313 && r14 == (long)before && r15 == (long)after &&
		r10 == d && r8 == e;
	return ret;
}

static long one_call(enum victim_kind kind, int fd, int ep, int *same)
{
	static const struct timespec nap = {0, NAP_NS};
	static struct timespec left;
	static struct epoll_event event;
	static int word;
	static char byte;
	static sigset_t mask;

	left = nap;
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	switch (kind) {
	case VICTIM_NANOSLEEP:
		return guarded_call(SYS_nanosleep, (long)&nap, 0, 0, 0, 0, same);
	case VICTIM_POLL:
		return guarded_call(SYS_poll, 0, 0, NAP_NS / 1000000, 0, 0, same);
	case VICTIM_PPOLL:
		return guarded_call(SYS_ppoll, 0, 0, (long)&left, (long)&mask, 8, same);
	case VICTIM_FUTEX: /* waits while it is 0, for a time */
		return guarded_call(SYS_futex, (long)&word, 0, 0, (long)&nap, 0, same);
	case VICTIM_READ:
		return guarded_call(SYS_read, fd, (long)&byte, 1, 0, 0, same);
	case VICTIM_EPOLL:
		return guarded_call(SYS_epoll_wait, ep, (long)&event, 1, NAP_NS / 1000000, 0, same);
	default:
		*same = 1;
		for (volatile unsigned i = 0; i < 100000; i++)
			;
		return 0;
	}
}

static int good(enum victim_kind kind, long rc)
{
	if (kind == VICTIM_FUTEX)
		return rc == -ETIMEDOUT;
	if (kind == VICTIM_EPOLL)
		return rc == 0 || rc == -EINTR;
	return rc == (kind == VICTIM_READ);
}

static void live(enum victim_kind kind, int fd)
{
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	int ep = epoll_create1(EPOLL_CLOEXEC);
	sigset_t mask, now;

	sigaction(SIGUSR1, &sa, NULL);
	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (;;) {
		int same = 0;
		long rc = one_call(kind, fd, ep, &same);
		char what[64];

		if (!good(kind, rc)) {
			snprintf(what, sizeof(what), "its call returned %ld", rc);
			wrong(what);
		}
		if (!same)
			wrong("a register or its red zone");
		if (memcmp(before, after, HEADER) != 0 ||
			memcmp(before + HEADER + 64, after + HEADER + 64,
				SAVE_BYTES - HEADER - 64) != 0)
			wrong("a vector register");
		sigprocmask(SIG_SETMASK, NULL, &now);
		if (memcmp(&mask, &now, 8) != 0)
			wrong("its signal mask");
		__atomic_fetch_add(&own->rounds, 1, __ATOMIC_SEQ_CST);
	}
}

int victim_start(struct victim *v, enum victim_kind kind, void (*prepare)(void))
{
	memset(v, 0, sizeof(*v));
	v->page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (v->page == MAP_FAILED || pipe2(v->pipe, O_CLOEXEC) < 0)
		return -errno;
	v->pid = fork();
	if (v->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		own = v->page;
		if (prepare != NULL)
			prepare();
		live(kind, v->pipe[0]);
	}
	if (v->pid < 0)
		return -errno;
	v->pidfd = (int)syscall(SYS_pidfd_open, v->pid, 0);
	return v->pidfd < 0 ? -errno : victim_rounds(v, 2);
}

void victim_stop(struct victim *v)
{
	kill(v->pid, SIGKILL);
	waitpid(v->pid, NULL, 0);
	close(v->pidfd);
	close(v->pipe[0]);
	close(v->pipe[1]);
	munmap((void *)v->page, 4096);
}

int victim_rounds(struct victim *v, unsigned n)
{
	uint64_t until = v->page->rounds + n;
	const struct timespec nap = {0, 1000000};

	for (unsigned i = 0; v->page->rounds < until; i++) {
		char byte = 1;

		if (i > 20000 || waitpid(v->pid, NULL, WNOHANG) != 0)
			return -1;
		if (write(v->pipe[1], &byte, 1) < 0) /* for who reads it; the pipe is large */
			return -1;
		nanosleep(&nap, NULL);
	}
	return 0;
}

int victim_fds(pid_t pid)
{
	char path[40];
	int n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	d = opendir(path);
	while (d != NULL && readdir(d) != NULL)
		n++;
	if (d != NULL)
		closedir(d);
	return n;
}

int victim_tracer(pid_t pid)
{
	char path[40], line[128];
	int tracer = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "TracerPid: %d", &tracer) == 1)
			break;
	if (f != NULL)
		fclose(f);
	return tracer;
}
