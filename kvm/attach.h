/* SPDX-License-Identifier: BSD-3-Clause */
/* Tracking the RAM of a VMM that knows nothing of us, from another process. attach_open() makes one
 * userfaultfd inside the VMM (see inject.h), takes it out, and registers the VMM's RAM mappings for
 * asynchronous write-protect; everything after that is done from outside, by the dirty source
 * pagemap-scan. The VMM keeps nothing: when this process ends, however it ends, the kernel
 * unregisters all.
 *
 * by: who looks into the VMM's process, see helper.h; NULL: this process itself, which takes the
 * right to ptrace it. A helper lives as long as what was made by it.
 *
 * Threads: attach_open() is run by one thread from begin to end (ptrace is per thread); then any
 * one thread at a time. */
#ifndef GODWIT_KVM_ATTACH_H
#define GODWIT_KVM_ATTACH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"
#include "finding.h"

#define ATTACH_VIEWS  64u  /* mappings of one file, contiguous ones counted as one */
#define ATTACH_PATH   256u /* bytes, with the NUL */
#define ATTACH_OTHERS 8u

/* [addr, addr + bytes) of the VMM's address space shows a region's file from offset on. Multiples
 * of the backing page. */
struct attach_ram {
	uint64_t addr;
	uint64_t bytes;
	uint64_t offset;
	unsigned region; /* index in the region map of the dirty source */
};

/* A file that the VMM maps, and how. */
struct attach_file {
	char path[ATTACH_PATH]; /* as /proc/PID/maps tells it, without " (deleted)" */
	bool deleted;
	bool shared;   /* every mapping of it is MAP_SHARED */
	bool writable; /* at least one mapping is */
	dev_t dev;
	ino_t ino;
	uint64_t bytes;      /* of the file; 0 where it can't be opened */
	uint32_t page_bytes; /* backing page: 4096, or the huge page of hugetlbfs */
	unsigned n;
	struct attach_ram ram[ATTACH_VIEWS]; /* region is 0 in all: the caller's to fill */
};

/* Files that the process maps writable, but for private ones smaller than 1 MiB (the data of
 * programs and libraries), in the order of their first address. *files is one allocation, for
 * free(). 0 or -errno: ESRCH, EPERM, E2BIG (more than ATTACH_VIEWS mappings of one file). */
struct helper;
int attach_files(
	struct helper *by, pid_t pid, struct attach_file **files, unsigned *n, struct err *e);

/* The one of them that path names: by its path, or as the file itself, seen from the VMM's root.
 * ENOENT: the VMM maps no such file. */
int attach_find_ram(pid_t pid, const char *path, struct attach_file *f, struct err *e);

/* Opens the file itself, for reading and writing, through /proc/PID/map_files or /proc/PID/fd.
 * fd (O_CLOEXEC) or -errno with e set. */
int attach_open_file(struct helper *by, pid_t pid, const struct attach_file *f, struct err *e);

/* A path as the process sees it, by O_PATH; fd or -errno. */
int attach_path(struct helper *by, pid_t pid, const char *path);

/* Other processes that map the file, this one and ours left out: their number; the first
 * ATTACH_OTHERS are in others. Reads the mappings of every process: some ms. One that can't be
 * looked at does not count.
 */
unsigned attach_others(
	pid_t pid, pid_t ours, const struct attach_file *f, pid_t others[ATTACH_OTHERS]);

/* What stands against tracking this process's files by attach, found without touching it: each with
 * its cure. An empty list says that attach_open() and the self-test are worth trying. */
void attach_check(struct helper *by, pid_t pid, const struct attach_file *files, unsigned n,
	struct findings *findings);

struct attach;

/* Attaches to process pid, which pidfd names too (both stay the caller's; the pidfd is used until
 * attach_close()). ram: all its mappings of RAM that is to be tracked, ordered by region. 0, or
 * -errno with a sentence and its cure in e, and the VMM as it was: EPERM (ptrace or userfaultfd
 * refused), EBUSY (being traced, or RAM registered already), ENOTSUP (kernel before 6.7, backing),
 * ESRCH (the VMM ended), EAGAIN (no thread could be stopped at a place that is safe). */
int attach_open(struct attach **a, struct helper *by, pid_t pid, int pidfd,
	const struct attach_ram *ram, unsigned n, struct err *e);

/* For how long one thread of the VMM was stopped, ns. */
uint64_t attach_stopped_ns(const struct attach *a);

/* The VMM is left as it was found: nothing registered, nothing write-protected. NULL is allowed. */
void attach_close(struct attach *a);

/* For the dirty source. Register and unregister all RAM mappings; both idempotent. attach_open()
 * leaves them registered. */
int attach_track(struct attach *a, struct err *e);
void attach_untrack(struct attach *a);
/* The VMM still maps its RAM as it was told, and nowhere else: -ESTALE with a sentence where a
 * mapping went, came or changed behind our back; -ESRCH where the VMM ended. */
int attach_verify(const struct attach *a, struct err *e);
const struct attach_ram *attach_mappings(const struct attach *a, unsigned *n);
int attach_uffd(const struct attach *a);
pid_t attach_pid(const struct attach *a);
/* As pagemap_open(). */
int attach_pagemap(const struct attach *a);

#endif
