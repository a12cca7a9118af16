// SPDX-License-Identifier: BSD-3-Clause
// The vCPU threads of a VMM, as /proc tells of them. Run by the control loop and by the drivers'
// threads; no state. What it reads is the kernel's, but for names, which are the VMM's own.

#include "vcpus.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "err.h"
#include "tracee.h"

static int read_text(pid_t pid, pid_t tid, const char *name, char *text, size_t room)
{
	_cleanup_(close_fd) int fd = -1;
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", (int)pid, (int)tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, room - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	return n > 0 ? 0 : -ENODATA;
}

unsigned vcpus_named(pid_t pid, pid_t *tids, unsigned most)
{
	const struct dirent *d;
	char path[40], comm[32];
	unsigned n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (dir == NULL)
		return 0;
	while (n < most && (d = readdir(dir)) != NULL) {
		pid_t tid = atoi(d->d_name);

		if (tid > 0 && read_text(pid, tid, "comm", comm, sizeof(comm)) == 0 &&
			tracee_named_vcpu(comm))
			tids[n++] = tid;
	}
	closedir(dir);
	return n;
}

int vcpus_parse(const char *stat, const char *schedstat, uint64_t tick_ns, struct vcpus_time *t,
	uint64_t *born_ns)
{
	const char *rest = strrchr(stat, ')'); /* the name before it may hold anything */
	uint64_t kernel, born;

	/* Fields 3 to 22: stime is the 15th, starttime the 22nd. */
	if (rest == NULL ||
		sscanf(rest + 1,
			" %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %" SCNu64
			" %*d %*d %*d %*d %*d %*d %" SCNu64,
			&kernel, &born) != 2 ||
		sscanf(schedstat, "%*u %" SCNu64, &t->wait_ns) != 1)
		return -EPROTO;
	t->kernel_ns = kernel * tick_ns;
	*born_ns = born * tick_ns;
	return 0;
}

int vcpus_time(pid_t pid, pid_t tid, struct vcpus_time *t, uint64_t *born_ns)
{
	char stat[512], schedstat[128];
	int rc = read_text(pid, tid, "stat", stat, sizeof(stat));

	if (rc == 0)
		rc = read_text(pid, tid, "schedstat", schedstat, sizeof(schedstat));
	return rc < 0 ? rc
		      : vcpus_parse(stat, schedstat, NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK), t,
				born_ns);
}
