// SPDX-License-Identifier: BSD-3-Clause
// Holes of hugetlbfs files. Run by control threads in the daemon and by the agent's thread; no
// state. The file is asked through a mapping of its own that nobody touches, registered with
// userfaultfd: UFFDIO_CONTINUE maps a page that the file holds and fails on one that it does not.
//
// Invariant: what is told as a hole was one at a time after the call began; where the kernel does
// not say, it is told as populated. No page is allocated.

#include "hole_huge.h"

#include "err.h"
#include "pagemap.h"
#include "uffd.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define STAT_BLOCK_BYTES 512u /* st_blocks' unit, whatever the file system */

uint64_t hole_huge_page_bytes(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && (uint64_t)fs.f_type == HUGETLBFS_MAGIC
		       ? (uint64_t)fs.f_bsize
		       : 0;
}

/* Bytes of the pages that the file holds, and its size. */
static int held(int fd, uint64_t *held_bytes, uint64_t *size)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return -errno;
	*held_bytes = (uint64_t)st.st_blocks * STAT_BLOCK_BYTES;
	*size = (uint64_t)st.st_size;
	return 0;
}

/* A mapping of whole huge pages, and what of it was asked for. */
struct lookup {
	uint64_t page_bytes;
	uint64_t from, end;     /* of the file: what is mapped */
	uint64_t offset, limit; /* of the file: what was asked for */
	uintptr_t addr;
	int uffd;
	hole_fn fn;
	void *arg;
};

static int tell(const struct lookup *l, uint64_t from, uint64_t to)
{
	if (from < l->offset)
		from = l->offset;
	if (to > l->limit)
		to = l->limit;
	return from < to ? l->fn(l->arg, from, to - from) : 0;
}

static int look_up(const struct lookup *l)
{
	uint64_t run = l->from; /* populated from here to at */
	uint64_t at = l->from;
	int rc = 0;

	while (at < l->end && rc == 0) {
		int64_t n = uffd_lookup_run(l->uffd, l->addr + (at - l->from), l->end - at);

		if (n == 0) {
			rc = tell(l, run, at);
			at += l->page_bytes;
			run = at;
		} else {
			/* An error is none of a hole: the page is there. */
			at += n > 0 ? (uint64_t)n : l->page_bytes;
		}
	}
	return rc == 0 ? tell(l, run, at) : rc;
}

/* False where userfaultfd can't be asked. */
static bool map_for(struct lookup *l, int fd)
{
	uint64_t bytes = l->end - l->from;
	void *p;

	l->uffd = uffd_open_lookup();
	if (l->uffd < 0)
		return false;
	/* Read-only: a writable mapping could make the file grow. */
	p = mmap(NULL, bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, (off_t)l->from);
	if (p == MAP_FAILED) {
		close_fd(&l->uffd);
		return false;
	}
	l->addr = (uintptr_t)p;
	if (uffd_lookup(l->uffd, l->addr, bytes) == 0)
		return true;
	munmap(p, bytes);
	close_fd(&l->uffd);
	return false;
}

int hole_huge_walk(int fd, uint64_t offset, uint64_t len, hole_fn fn, void *arg)
{
	uint64_t page = hole_huge_page_bytes(fd), held_bytes = 0, size = 0;
	struct lookup l = {.page_bytes = page, .offset = offset, .fn = fn, .arg = arg};
	int rc = held(fd, &held_bytes, &size);

	if (rc < 0 || held_bytes == 0)
		return rc;
	l.from = offset / page * page;
	l.limit = offset + len < size ? offset + len : size;
	l.end = (l.limit + page - 1) / page * page;
	if (l.from >= l.end)
		return 0;
	if (held_bytes >= size || !map_for(&l, fd))
		return tell(&l, l.from, l.end);
	rc = look_up(&l);
	munmap((void *)l.addr, l.end - l.from);
	close_fd(&l.uffd);
	return rc;
}

static int add_bytes(void *arg, uint64_t offset, uint64_t bytes, uint64_t state)
{
	(void)offset;
	(void)state;
	*(uint64_t *)arg += bytes;
	return 0;
}

static int tell_mapped(void *arg, uint64_t offset, uint64_t bytes, uint64_t state)
{
	const struct lookup *l = arg;

	(void)state;
	return tell(l, offset, offset + bytes);
}

/* The page table gains no entry meanwhile, and has none of a page that the file does not hold: so
 * when as many pages are mapped as the file held before, they are the same. */
int hole_huge_walk_mapped(int fd, int pm, const void *base, uint64_t bytes, hole_fn fn, void *arg)
{
	const struct pagemap_query q = {.all = PAGEMAP_PRESENT, .report = PAGEMAP_PRESENT};
	struct lookup l = {.limit = bytes, .fn = fn, .arg = arg};
	uint64_t held_bytes = 0, size = 0, mapped = 0;
	int rc = held(fd, &held_bytes, &size);

	if (rc < 0 || held_bytes == 0)
		return rc;
	if (held_bytes >= size ||
		pagemap_walk(pm, &q, (uintptr_t)base, bytes, add_bytes, &mapped) < 0 ||
		mapped != held_bytes)
		return hole_huge_walk(fd, 0, bytes, fn, arg);
	return pagemap_walk(pm, &q, (uintptr_t)base, bytes, tell_mapped, &l);
}
