// SPDX-License-Identifier: BSD-3-Clause
// Looks through the descriptors of a VMM for writers that can't be seen. Run by control threads; no
// state. Of each kind one finding for each file, not for each descriptor of it.

#include "attach_writers.h"

#include "err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NAME_BYTES 200u

struct fd_of {
	pid_t pid;
	int nr;
	char name[NAME_BYTES]; /* what /proc/PID/fd/NR links to */
};

static const struct {
	const char *begins; /* of the name */
	const char *finding, *what, *cure;
} devices[] = {
	{"/dev/vhost-net", "vhost", "has the kernel write received packets into guest memory",
		"start the VMM with vhost=off for its network, or take a VMM that links libgodwit "
		"and logs these writes"},
	{"/dev/vhost-vsock", "vhost", "has the kernel write into guest memory",
		"unplug the vsock device for the migration"},
	{"/dev/vhost-scsi", "vhost", "has the kernel read disks straight into guest memory",
		"use virtio-scsi served by the VMM itself"},
	{"/dev/vhost-vdpa", "vhost", "has a card write into guest memory",
		"unplug the vDPA device for the migration"},
	{"/dev/vfio/", "vfio", "has a device of the host write into guest memory",
		"unplug the passed-through device for the migration"},
	{"/dev/iommu", "vfio", "has a device of the host write into guest memory",
		"unplug the passed-through device for the migration"},
	{"anon_inode:[vfio-device]", "vfio", "has a device of the host write into guest memory",
		"unplug the passed-through device for the migration"},
	{"/dev/infiniband/", "rdma", "may have a card write into guest memory by RDMA",
		"unplug the RDMA device for the migration"},
	{"/dev/udmabuf", "udmabuf", "may give guest memory to graphics devices",
		"start the VMM without blob resources (blob=off)"},
	{"anon_inode:[kvm-gmem]", "guest-memfd", "keeps guest memory where no one else can read it",
		"start the guest without confidential memory"},
};

static FILE *open_info(const struct fd_of *f)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)f->pid, f->nr);
	return fopen(path, "re");
}

/* Flags of open(2), or -1. */
static long open_flags(const struct fd_of *f)
{
	FILE *info = open_info(f);
	char line[128];
	long flags = -1;

	while (info != NULL && flags < 0 && fgets(line, sizeof(line), info) != NULL)
		if (strncmp(line, "flags:", 6) == 0)
			flags = strtol(line + 6, NULL, 8);
	if (info != NULL)
		fclose(info);
	return flags;
}

/* Buffers registered with an io_uring, from what fdinfo says; -1: it did not say, which it does not
 * while the ring is in use. Lines: "UserBufs:\t2", then for each a line "  0: address/length", or
 * "<none>" for a place without a buffer. */
static int count_buffers(FILE *info)
{
	char line[256];
	int n = -1, left = 0;

	while (fgets(line, sizeof(line), info) != NULL) {
		if (strncmp(line, "UserBufs:", 9) == 0) {
			n = left = atoi(line + 9);
		} else if (left > 0) {
			left--;
			if (strstr(line, "<none>") != NULL)
				n--;
		}
	}
	return n;
}

static int fixed_buffers(const struct fd_of *f)
{
	const struct timespec nap = {0, 1000000};
	int n = -1;

	for (unsigned i = 0; i < 20 && n < 0; i++) {
		FILE *info = open_info(f);

		if (info == NULL)
			return errno == ENOENT ? 0 : -1; /* closed meanwhile */
		n = count_buffers(info);
		fclose(info);
		if (n < 0)
			nanosleep(&nap, NULL);
	}
	return n;
}

static void check_io_uring(const struct fd_of *f, struct findings *findings)
{
	const char *cure = "use aio=threads for the VMM's disks, or no registered buffers";
	int n = fixed_buffers(f);

	if (n > 0)
		finding_add(findings, "io-uring", cure,
			"process %d has %d buffers registered with an io_uring (descriptor %d): "
			"reads into them are not seen as writes",
			(int)f->pid, n, f->nr);
	else if (n < 0)
		finding_add(findings, "io-uring", cure,
			"process %d: which buffers its io_uring has registered can't be told "
			"(descriptor %d)",
			(int)f->pid, f->nr);
}

static void check_file(const struct fd_of *f, struct findings *findings)
{
	long flags = f->name[0] == '/' ? open_flags(f) : -1;

	if (flags < 0 || (flags & O_DIRECT) == 0 || (flags & O_ACCMODE) == O_WRONLY)
		return;
	finding_add(findings, "direct-io",
		"say --disk-cache writeback, or start the VMM with cache.direct=off",
		"process %d reads %s past the page cache (O_DIRECT): what arrives in guest memory "
		"that way is not seen as written",
		(int)f->pid, f->name);
}

static bool is_new(const struct findings *findings, unsigned from, const char *name)
{
	for (unsigned i = from; i < findings->n; i++)
		if (strstr(findings->f[i].text, name) != NULL)
			return false;
	return true;
}

static int device_of(const char *name)
{
	const int n = sizeof(devices) / sizeof(devices[0]);

	for (int i = 0; i < n; i++)
		if (strncmp(name, devices[i].begins, strlen(devices[i].begins)) == 0)
			return i;
	return -1;
}

const char *attach_writer_named(const char *name)
{
	int i = device_of(name);

	return i < 0 ? NULL : devices[i].finding;
}

static void check_fd(const struct fd_of *f, unsigned from, struct findings *findings)
{
	int i = device_of(f->name);

	if (strcmp(f->name, "anon_inode:[io_uring]") == 0) {
		check_io_uring(f, findings);
		return;
	}
	if (!is_new(findings, from, f->name))
		return;
	if (i < 0)
		check_file(f, findings);
	else
		finding_add(findings, devices[i].finding, devices[i].cure,
			"process %d has %s open, which %s unseen", (int)f->pid, f->name,
			devices[i].what);
}

void attach_writers(pid_t pid, struct findings *findings)
{
	unsigned from = findings->n;
	const struct dirent *d;
	char path[40];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (dir == NULL)
		finding_add(findings, "fds", "run godwitd as root, or with CAP_SYS_PTRACE",
			"process %d: its open files can't be looked at: %s", (int)pid,
			strerror(errno));
	while (dir != NULL && (d = readdir(dir)) != NULL) {
		struct fd_of f = {.pid = pid, .nr = atoi(d->d_name)};
		ssize_t n = d->d_name[0] != '.'
				    ? readlinkat(dirfd(dir), d->d_name, f.name, sizeof(f.name) - 1)
				    : -1;

		if (n > 0)
			check_fd(&f, from, findings);
	}
	if (dir != NULL)
		closedir(dir);
}
