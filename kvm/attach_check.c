// SPDX-License-Identifier: BSD-3-Clause
// What stands against tracking a VMM from outside, found without touching it. Run by control
// threads; no state. What only trying tells (a seccomp filter, a security module, RAM that is
// registered already) attach_open() says.

#include "attach.h"
#include "attach_ram.h"
#include "attach_writers.h"
#include "helper.h"
#include "probe.h"
#include "tracee.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

static void check_kernel(struct findings *all)
{
	int uffd = probe_uffd();
	int scan = probe_pagemap();

	if (uffd < 0)
		finding_add(all, "kernel",
			"run Linux 6.7 or newer, and let godwitd use userfaultfd (root, or "
			"vm.unprivileged_userfaultfd=1)",
			"this kernel does not give userfaultfd with asynchronous write-protection: "
			"%s",
			strerror(-uffd));
	if (scan < 0)
		finding_add(all, "kernel", "run Linux 6.7 or newer",
			"this kernel does not give PAGEMAP_SCAN: %s", strerror(-scan));
}

/* Opening a process's memory for writing takes the same rights as ptrace. */
static void check_ptrace(pid_t pid, struct findings *all)
{
	_cleanup_(close_fd) int fd = -1;
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		finding_add(all, "gone", "start the VMM", "there is no process %d", (int)pid);
	else if (fd < 0)
		finding_add(all, "ptrace",
			"run godwitd as root or with CAP_SYS_PTRACE, and set "
			"kernel.yama.ptrace_scope below 3",
			"ptrace on process %d is refused: %s", (int)pid, strerror(errno));
}

static void check_threads(pid_t pid, struct findings *all)
{
	const struct dirent *d;
	bool traced = false, shadow = false;
	char path[40];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir != NULL && (d = readdir(dir)) != NULL) {
		struct tracee_guard g;

		if (d->d_name[0] == '.' || tracee_guarded(pid, (pid_t)atoi(d->d_name), &g) < 0)
			continue;
		if (g.tracer != 0 && !traced)
			finding_add(all, "traced", "let that debugger or tracer detach",
				"process %d is being traced by process %d", (int)pid,
				(int)g.tracer);
		if (g.shadow_stack && !shadow)
			finding_add(all, "shadow-stack",
				"start the VMM without "
				"(GLIBC_TUNABLES=glibc.cpu.x86_shstk=off)",
				"process %d runs with a shadow stack", (int)pid);
		traced = traced || g.tracer != 0;
		shadow = shadow || g.shadow_stack;
	}
	if (dir != NULL)
		closedir(dir);
}

static void check_backing(pid_t pid, const struct attach_file *f, struct findings *all)
{
	_cleanup_(close_fd) int fd = -1;
	struct statfs fs;
	struct err e;

	fd = attach_open_file(NULL, pid, f, &e);
	if (fd < 0) {
		finding_add(all, "ram-open", "run godwitd as root", "%s", e.text);
		return;
	}
	if (fstatfs(fd, &fs) == 0 && (uint64_t)fs.f_type != TMPFS_MAGIC &&
		(uint64_t)fs.f_type != HUGETLBFS_MAGIC)
		finding_add(all, "ram-backing",
			"put the RAM file on tmpfs (/dev/shm) or hugetlbfs, or use a memfd",
			"%s is on a file system whose pages can't be write-protected from outside",
			f->path);
}

static void check_others(pid_t pid, pid_t ours, const struct attach_file *f, struct findings *all)
{
	pid_t others[ATTACH_OTHERS];
	unsigned n = attach_others(pid, ours, f, others);

	for (unsigned i = 0; i < n && i < ATTACH_OTHERS; i++)
		finding_add(all, "ram-shared",
			"end that process, or unplug the device that it serves (vhost-user, "
			"ivshmem) for the migration",
			"process %d maps the guest's RAM %s too, and its writes are not seen",
			(int)others[i], f->path);
}

static void check_file(pid_t pid, pid_t ours, const struct attach_file *f, struct findings *all)
{
	if (!f->shared)
		finding_add(all, "ram-private",
			"start the VMM with shared memory (QEMU: memory-backend-file,share=on)",
			"%s is mapped privately: what the guest writes is in no file", f->path);
	if (f->page_bytes > 2u << 20)
		finding_add(all, "huge-1g", "back the guest with pages of 2 MiB or 4 KiB",
			"%s is on huge pages of %u MiB, which can't be write-protected from "
			"outside",
			f->path, f->page_bytes >> 20);
	for (unsigned i = 0; i < f->n && f->bytes > 0; i++)
		if (f->ram[i].offset + f->ram[i].bytes > f->bytes) {
			finding_add(all, "ram-size", "give the file its whole size",
				"%s is shorter than what the VMM maps of it", f->path);
			break;
		}
	check_backing(pid, f, all);
	check_others(pid, ours, f, all);
}

static void check_by(struct helper *by, pid_t pid, const struct attach_file *files, unsigned n,
	struct findings *findings)
{
	struct findings *more = calloc(1, sizeof(*more));
	struct err e = {0};

	if (more == NULL || helper_check(by, pid, files, n, more, &e) < 0)
		finding_add(findings, "helper", "restart godwitd", "%s",
			more == NULL ? "out of memory" : e.text);
	else
		findings_add(findings, more);
	free(more);
}

void attach_check_for(pid_t ours, pid_t pid, const struct attach_file *files, unsigned n,
	struct findings *findings)
{
	check_kernel(findings);
	check_ptrace(pid, findings);
	check_threads(pid, findings);
	for (unsigned i = 0; i < n; i++)
		check_file(pid, ours, &files[i], findings);
	attach_writers(pid, findings);
}

void attach_check(struct helper *by, pid_t pid, const struct attach_file *files, unsigned n,
	struct findings *findings)
{
	if (by != NULL)
		check_by(by, pid, files, n, findings);
	else
		attach_check_for(getpid(), pid, files, n, findings);
}
