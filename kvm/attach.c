// SPDX-License-Identifier: BSD-3-Clause
// Attach: a userfaultfd of the VMM in our hands, and its RAM mappings registered with it. Run by
// one thread at a time. Invariant: the VMM holds nothing of this. What is registered hangs on our
// descriptor alone, so that our end, however it comes, ends it too.

#include "attach.h"

#include "attach_ram.h"
#include "helper.h"
#include "inject.h"
#include "pagemap.h"
#include "uffd.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_MOST (2u << 20)

/* What is behind a mapping. */
struct tracked {
	struct attach_file file; /* as it was at open */
	int fd;
};

struct attach {
	struct helper *by; /* NULL: this process */
	pid_t pid;
	int pidfd; /* the caller's */
	int uffd;
	uint64_t stopped_ns;
	unsigned n;
	struct attach_ram *ram;
	struct tracked *of; /* each mapping's file */
	unsigned tracked;   /* the first mappings that are registered */
};

static bool ended(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return poll(&p, 1, 0) != 0;
}

/* The file that shows at a mapping, or NULL. */
static const struct attach_file *find_file(
	const struct attach_file *files, unsigned n, const struct attach_ram *ram)
{
	for (unsigned i = 0; i < n; i++)
		for (unsigned k = 0; k < files[i].n; k++) {
			const struct attach_ram *r = &files[i].ram[k];
			uint64_t at = ram->addr - r->addr;

			if (at < r->bytes && ram->bytes <= r->bytes - at &&
				ram->offset == r->offset + at)
				return &files[i];
		}
	return NULL;
}

/* Whether the VMM maps the file nowhere but where we were told: other writes would not be seen. */
static bool covered(const struct attach *a, const struct attach_file *f)
{
	for (unsigned k = 0; k < f->n; k++) {
		uint64_t at = f->ram[k].addr, end = at + f->ram[k].bytes;
		unsigned i = 0;

		while (at < end && i < a->n) { /* what was told may be in pieces, in any order */
			bool in = at - a->ram[i].addr < a->ram[i].bytes;

			if (in)
				at = a->ram[i].addr + a->ram[i].bytes;
			i = in ? 0 : i + 1;
		}
		if (at < end)
			return false;
	}
	return true;
}

static int check_covered(
	const struct attach *a, const struct attach_file *f, int err, struct err *e)
{
	if (covered(a, f))
		return 0;
	return err_set(e, err,
		"process %d maps %s at more places than are tracked: writes there would not be "
		"seen",
		(int)a->pid, f->path);
}

static int check_file(const struct attach *a, const struct attach_file *f, struct err *e)
{
	if (!f->shared)
		return err_set(e, ENOTSUP,
			"%s is mapped privately: what the guest writes is in no file; start the "
			"VMM with shared memory (QEMU: share=on)",
			f->path);
	if (f->page_bytes > PAGE_MOST)
		return err_set(e, ENOTSUP,
			"%s is on huge pages of %u MiB, which can't be write-protected from "
			"outside; use 2 MiB or 4 KiB pages",
			f->path, f->page_bytes >> 20);
	return check_covered(a, f, EINVAL, e);
}

/* Each mapping must be of a file that can be tracked, which is remembered. */
static int remember(struct attach *a, struct err *e)
{
	_cleanup_(free_ptr) struct attach_file *files = NULL;
	unsigned n;
	int rc = attach_files(a->by, a->pid, &files, &n, e);

	for (unsigned i = 0; rc == 0 && i < a->n; i++) {
		const struct attach_file *f = find_file(files, n, &a->ram[i]);

		if (f == NULL)
			return err_set(e, EINVAL,
				"process %d has no RAM mapped at %llx as was said", (int)a->pid,
				(unsigned long long)a->ram[i].addr);
		a->of[i].file = *f;
		rc = check_file(a, f, e);
		if (rc == 0)
			a->of[i].fd = attach_open_file(a->by, a->pid, f, e);
		if (rc == 0 && a->of[i].fd < 0)
			rc = a->of[i].fd;
	}
	return rc;
}

static int check_size(const struct tracked *t, struct err *e)
{
	struct stat st;

	if (fstat(t->fd, &st) < 0 || (uint64_t)st.st_size != t->file.bytes)
		return err_set(e, ESTALE, "the RAM file %s changed its size", t->file.path);
	return 0;
}

int attach_verify(const struct attach *a, struct err *e)
{
	_cleanup_(free_ptr) struct attach_file *files = NULL;
	struct err own;
	unsigned n;
	int rc;

	e = e != NULL ? e : &own;
	rc = attach_list(a->by, a->pid, &files, &n, e);
	if (ended(a->pidfd))
		return err_set(e, ESRCH, "process %d has ended", (int)a->pid);
	for (unsigned i = 0; rc == 0 && i < a->n; i++) {
		const struct attach_file *f = find_file(files, n, &a->ram[i]);

		if (f == NULL || f->ino != a->of[i].file.ino || f->dev != a->of[i].file.dev ||
			!f->shared)
			return err_set(e, ESTALE,
				"process %d does not map its RAM at %llx any more as it did; was "
				"memory unplugged?",
				(int)a->pid, (unsigned long long)a->ram[i].addr);
		rc = check_covered(a, f, ESTALE, e);
		if (rc == 0)
			rc = check_size(&a->of[i], e);
	}
	return rc;
}

/* What this host offers, before anything is touched. */
static int check_kernel(struct err *e)
{
	int fd = uffd_open();

	if (fd < 0)
		return err_sys(e, fd == -EINVAL || fd == -ENOSYS ? ENOTSUP : -fd,
			"tracking another process takes userfaultfd with asynchronous "
			"write-protection, Linux 6.7 or newer");
	close(fd);
	return 0;
}

static int register_all(struct attach *a, struct err *e)
{
	while (a->tracked < a->n) {
		const struct attach_ram *r = &a->ram[a->tracked];
		const char *path = a->of[a->tracked].file.path;
		int rc = uffd_track(a->uffd, r->addr, r->bytes);

		if (rc == -EBUSY)
			err_set(e, EBUSY,
				"%s: another userfaultfd has this memory (a postcopy or a "
				"background snapshot, or another godwitd); end that first",
				path);
		else if (rc < 0)
			err_sys(e, -rc,
				"%s: userfaultfd can't track this mapping; RAM must be a shared "
				"memfd, or a file on tmpfs or hugetlbfs",
				path);
		if (rc < 0) {
			attach_untrack(a);
			return rc;
		}
		a->tracked++;
	}
	return 0;
}

int attach_track(struct attach *a, struct err *e)
{
	struct err own;

	return register_all(a, e != NULL ? e : &own);
}

void attach_untrack(struct attach *a)
{
	for (unsigned i = 0; i < a->tracked; i++)
		uffd_untrack(a->uffd, a->ram[i].addr, a->ram[i].bytes);
	a->tracked = 0;
}

static int take_uffd(struct attach *a, struct err *e)
{
	struct inject i = {.pid = a->pid, .pidfd = a->pidfd};
	int rc;

	a->uffd = a->by != NULL ? helper_userfaultfd(a->by, &i, e) : inject_userfaultfd(&i, e);
	if (a->uffd < 0)
		return a->uffd;
	a->stopped_ns = i.stopped_ns;
	rc = uffd_begin(a->uffd);
	if (rc < 0)
		return err_sys(e, -rc, "process %d: its userfaultfd lacks what tracking takes",
			(int)a->pid);
	return 0;
}

static int fill(struct attach *a, const struct attach_ram *ram, unsigned n, struct err *e)
{
	a->ram = calloc(n, sizeof(*a->ram));
	a->of = calloc(n, sizeof(*a->of));
	if (n == 0)
		return err_set(e, EINVAL, "no RAM to track was given");
	if (a->ram == NULL || a->of == NULL)
		return err_set(e, ENOMEM, "out of memory");
	memcpy(a->ram, ram, n * sizeof(*ram));
	a->n = n;
	for (unsigned i = 0; i < n; i++)
		a->of[i].fd = -1;
	return 0;
}

int attach_open(struct attach **out, struct helper *by, pid_t pid, int pidfd,
	const struct attach_ram *ram, unsigned n, struct err *e)
{
	struct attach *a = calloc(1, sizeof(*a));
	struct err own;
	int rc;

	*out = NULL;
	e = e != NULL ? e : &own;
	if (a == NULL)
		return err_set(e, ENOMEM, "out of memory");
	a->by = by;
	a->pid = pid;
	a->pidfd = pidfd;
	a->uffd = -1;
	rc = fill(a, ram, n, e);
	if (rc == 0)
		rc = check_kernel(e);
	if (rc == 0)
		rc = remember(a, e);
	/* All that was read of /proc was of this process, if it still is there. */
	if (rc == 0 && ended(pidfd))
		rc = err_set(e, ESRCH, "process %d has ended", (int)pid);
	if (rc == 0)
		rc = take_uffd(a, e);
	if (rc == 0)
		rc = register_all(a, e);
	if (rc < 0) {
		attach_close(a);
		return rc;
	}
	*out = a;
	return 0;
}

uint64_t attach_stopped_ns(const struct attach *a)
{
	return a->stopped_ns;
}

void attach_close(struct attach *a)
{
	if (a == NULL)
		return;
	attach_untrack(a);
	close_fd(&a->uffd);
	for (unsigned i = 0; i < a->n; i++)
		close_fd(&a->of[i].fd);
	free(a->ram);
	free(a->of);
	free(a);
}

const struct attach_ram *attach_mappings(const struct attach *a, unsigned *n)
{
	*n = a->n;
	return a->ram;
}

int attach_uffd(const struct attach *a)
{
	return a->uffd;
}

pid_t attach_pid(const struct attach *a)
{
	return a->pid;
}

int attach_pagemap(const struct attach *a)
{
	return a->by != NULL ? helper_pagemap(a->by, a->pid) : pagemap_open(a->pid);
}
