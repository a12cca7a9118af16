// SPDX-License-Identifier: BSD-3-Clause
// Which thread of a VMM to stop: by its name, state and system call in /proc. Run by the attaching
// thread; no state. All of it is of the past when it is used: what a thread does is looked at again
// when it stands still.

#include "tracee.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "err.h"

#define KVM_RUN 0xae80u

struct candidate {
	pid_t tid;
	unsigned rank; /* lower is better */
};

enum {
	RANK_RESTARTS, /* asleep in a call that is restarted without a trace */
	RANK_MAIN,     /* the same, of the main thread: the event loop */
	RANK_ASLEEP,   /* in a call that may return EINTR, which its caller knows from SIGCONT */
	RANK_RUNS,
	RANK_VCPU,
	RANK_NEVER,
};

static bool read_text(pid_t pid, pid_t tid, const char *name, char *text, size_t room)
{
	_cleanup_(close_fd) int fd = -1;
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", (int)pid, (int)tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd >= 0 ? read(fd, text, room - 1) : -1;
	text[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static bool restarts(unsigned long nr)
{
	static const unsigned short calls[] = {SYS_futex, SYS_ppoll, SYS_poll, SYS_read, SYS_readv,
		SYS_recvmsg, SYS_recvfrom, SYS_accept, SYS_accept4, SYS_nanosleep,
		SYS_clock_nanosleep, SYS_wait4, SYS_waitid, SYS_select, SYS_pselect6, SYS_pause};

	for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (calls[i] == nr)
			return true;
	return false;
}

/* QEMU, Cloud Hypervisor, crosvm and Firecracker name their vCPUs' threads. */
bool tracee_named_vcpu(const char *comm)
{
	return strncmp(comm, "CPU ", 4) == 0 || strstr(comm, "vcpu") != NULL;
}

static unsigned rank(pid_t pid, pid_t tid)
{
	char comm[32], stat[512], text[256];
	const char *state;
	unsigned long nr, fd, request = 0;

	if (!read_text(pid, tid, "comm", comm, sizeof(comm)) ||
		!read_text(pid, tid, "stat", stat, sizeof(stat)))
		return RANK_NEVER;
	state = strrchr(stat, ')');
	if (state == NULL || strlen(state) < 3 || strchr("ZXDt", state[2]) != NULL)
		return RANK_NEVER;
	if (tracee_named_vcpu(comm))
		return RANK_VCPU;
	if (!read_text(pid, tid, "syscall", text, sizeof(text)) ||
		sscanf(text, "%lu %lx %lx", &nr, &fd, &request) < 3)
		return RANK_RUNS;
	if (nr == SYS_ioctl)
		return request == KVM_RUN ? RANK_VCPU : RANK_RUNS;
	if (state[2] != 'S')
		return RANK_RUNS;
	if (!restarts(nr))
		return RANK_ASLEEP;
	return tid == pid ? RANK_MAIN : RANK_RESTARTS;
}

static int better(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return x->rank != y->rank ? (x->rank < y->rank ? -1 : 1)
				  : (x->tid > y->tid) - (x->tid < y->tid);
}

/* Keeps the best: list has room for TRACEE_THREADS and one more. */
static void add(struct candidate *list, unsigned *n, pid_t pid, pid_t tid)
{
	struct candidate c = {tid, rank(pid, tid)};

	if (c.rank == RANK_NEVER)
		return;
	list[(*n)++] = c;
	qsort(list, *n, sizeof(*list), better);
	if (*n > TRACEE_THREADS)
		*n = TRACEE_THREADS;
}

int tracee_candidates(pid_t pid, pid_t tids[TRACEE_THREADS])
{
	struct candidate list[TRACEE_THREADS + 1];
	const struct dirent *d;
	unsigned n = 0;
	char path[40];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (dir == NULL)
		return errno == ENOENT ? -ESRCH : -errno;
	while ((d = readdir(dir)) != NULL)
		if (d->d_name[0] != '.')
			add(list, &n, pid, (pid_t)atoi(d->d_name));
	closedir(dir);
	for (unsigned i = 0; i < n; i++)
		tids[i] = list[i].tid;
	return (int)n;
}

void tracee_read_guard(const char *text, struct tracee_guard *g)
{
	const char *at = strstr(text, "\nSeccomp:");

	memset(g, 0, sizeof(*g));
	g->seccomp = at != NULL ? atoi(at + strlen("\nSeccomp:")) : 0;
	at = strstr(text, "\nTracerPid:");
	g->tracer = at != NULL ? atoi(at + strlen("\nTracerPid:")) : 0;
	at = strstr(text, "\nx86_Thread_features:");
	if (at != NULL) {
		const char *end = strchr(at + 1, '\n');
		const char *found = strstr(at, "shstk");

		g->shadow_stack = found != NULL && (end == NULL || found < end);
	}
}

int tracee_guarded(pid_t pid, pid_t tid, struct tracee_guard *g)
{
	char text[4096];

	memset(g, 0, sizeof(*g));
	if (!read_text(pid, tid, "status", text, sizeof(text)))
		return -ESRCH;
	tracee_read_guard(text, g);
	return 0;
}
