// SPDX-License-Identifier: BSD-3-Clause
// Finds the holes of RAM files. Run by control threads in the daemon and by the agent's thread; no
// state. The answer is of the past when it comes: callers look after arming (law 11).

#include "hole.h"

#include "bits.h"
#include "err.h"
#include "hole_huge.h"
#include "pagemap.h"
#include "region.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451 /* Linux 6.5; include/uapi/linux/mman.h */
#endif

/* Is each page of [offset, end) in the page cache, or swapped out? Looks at no page beyond, nor at
 * content. False where the kernel can't tell. */
static bool all_there(int fd, uint64_t offset, uint64_t end)
{
	uint64_t range[2] = {offset, end - offset};
	struct {
		uint64_t cached, dirty, writeback, evicted, recently_evicted;
	} there = {0};

	return syscall(SYS_cachestat, fd, range, &there, 0) == 0 &&
	       there.cached + there.evicted >= (end - offset) >> PAGE_SHIFT;
}

/* The next data from offset on; its end is told as `end` where all up to there is there. whole: the
 * rest of the file will be asked for. */
static int find(int fd, uint64_t offset, uint64_t end, bool whole, struct hole_extent *x)
{
	off_t data = lseek(fd, (off_t)offset, SEEK_DATA), hole;

	if (data < 0 && errno != ENXIO)
		return -errno;
	x->data = x->hole = data < 0 ? UINT64_MAX : (uint64_t)data & ~(PAGE_BYTES - 1);
	if (x->data >= end)
		return 0;
	/* On tmpfs SEEK_HOLE looks at each page up to the next hole, however far beyond this range
	 * that is: in pieces, a file without holes would cost its size squared. */
	if (!whole && all_there(fd, x->data, end)) {
		x->hole = end;
		return 0;
	}
	hole = lseek(fd, data, SEEK_HOLE);
	if (hole < 0 && errno != ENXIO)
		return -errno;
	/* ENXIO: punched, or the file cut, since: ask again from there. */
	x->hole = hole < 0 ? x->data + PAGE_BYTES
			   : ((uint64_t)hole + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
	return 0;
}

static int walk(int fd, uint64_t offset, uint64_t end, bool whole, struct hole_extent *x,
	hole_fn fn, void *arg)
{
	int rc = 0;

	while (rc == 0 && offset < end) {
		uint64_t to;

		if (offset >= x->hole)
			rc = find(fd, offset, end, whole, x);
		if (rc != 0 || x->data >= end)
			break;
		if (offset < x->data)
			offset = x->data;
		to = x->hole < end ? x->hole : end;
		if (offset < to)
			rc = fn(arg, offset, to - offset);
		offset = to;
	}
	return rc;
}

int hole_walk_next(
	int fd, uint64_t offset, uint64_t len, struct hole_extent *known, hole_fn fn, void *arg)
{
	if (hole_huge_page_bytes(fd) != 0)
		return hole_huge_walk(fd, offset, len, fn, arg);
	return walk(fd, offset, offset + len, false, known, fn, arg);
}

int hole_walk_range(int fd, uint64_t offset, uint64_t len, hole_fn fn, void *arg)
{
	struct hole_extent nothing = {0};

	return hole_walk_next(fd, offset, len, &nothing, fn, arg);
}

int hole_walk(int fd, uint64_t bytes, hole_fn fn, void *arg)
{
	struct hole_extent nothing = {0};

	if (hole_huge_page_bytes(fd) != 0)
		return hole_huge_walk(fd, 0, bytes, fn, arg);
	return walk(fd, 0, bytes, true, &nothing, fn, arg);
}

static int set_words(void *arg, uint64_t offset, uint64_t len)
{
	bits_set_range(arg, offset >> PAGE_SHIFT, len >> PAGE_SHIFT);
	return 0;
}

int hole_populated(int fd, uint64_t bytes, uint64_t *words)
{
	return hole_walk(fd, bytes, set_words, words);
}

static int add_bytes(void *arg, uint64_t offset, uint64_t len)
{
	(void)offset;
	*(uint64_t *)arg += len;
	return 0;
}

int hole_measure(int fd, uint64_t bytes, uint64_t *populated_bytes)
{
	struct statfs fs;
	struct stat st;

	*populated_bytes = 0;
	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return -errno;
	if (fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC)
		return hole_walk(fd, bytes, add_bytes, populated_bytes);
	*populated_bytes = (uint64_t)st.st_blocks * 512;
	if (*populated_bytes > bytes)
		*populated_bytes = bytes;
	return 0;
}

struct present {
	int fd;
	uint64_t at; /* all before is done */
	struct hole_extent known;
	hole_fn fn;
	void *arg;
};

/* What is mapped between here and the last absent range is there. */
static int tell_present(struct present *p, uint64_t end)
{
	return end > p->at ? p->fn(p->arg, p->at, end - p->at) : 0;
}

static int on_absent(void *arg, uint64_t offset, uint64_t len, uint64_t state)
{
	struct present *p = arg;
	int rc = tell_present(p, offset);

	(void)state;
	p->at = offset + len;
	return rc != 0 ? rc : walk(p->fd, offset, offset + len, true, &p->known, p->fn, p->arg);
}

int hole_walk_mapped(int fd, uint64_t bytes, const void *base, hole_fn fn, void *arg)
{
	/* Asking for what is not there is quicker: the kernel says nothing about the rest. */
	const struct pagemap_query absent = {
		.inverted = PAGEMAP_PRESENT, .all = PAGEMAP_PRESENT, .report = PAGEMAP_SWAPPED};
	struct present p = {.fd = fd, .fn = fn, .arg = arg};
	_cleanup_(close_fd) int pm = -1;
	int rc;

	if (base == NULL)
		return hole_walk(fd, bytes, fn, arg);
	pm = pagemap_open(0);
	if (pm < 0)
		return hole_walk(fd, bytes, fn, arg);
	if (hole_huge_page_bytes(fd) != 0)
		return hole_huge_walk_mapped(fd, pm, base, bytes, fn, arg);
	rc = pagemap_walk(pm, &absent, (uintptr_t)base, bytes, on_absent, &p);
	if (rc == -ENOTTY && p.at == 0)
		return hole_walk(fd, bytes, fn, arg);
	return rc == 0 ? tell_present(&p, bytes) : rc;
}

int hole_populated_mapped(int fd, uint64_t bytes, const void *base, uint64_t *words)
{
	return hole_walk_mapped(fd, bytes, base, set_words, words);
}
