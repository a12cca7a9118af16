/* SPDX-License-Identifier: BSD-3-Clause */
/* Holes of a RAM file: what was never populated, or punched. They read as zeros, and are never
 * read: reading a hole of shared memory allocates it. */
#ifndef GODWIT_KVM_HOLE_H
#define GODWIT_KVM_HOLE_H

#include <stdint.h>

/* Calls fn for each data extent of the file's [0, bytes), in order, whole pages. fn returns 0 to go
 * on; another value ends the walk and is returned. Otherwise 0 or -errno. Costs about 30 ns a
 * populated page; on hugetlbfs what hole_huge.h says. */
typedef int (*hole_fn)(void *arg, uint64_t offset, uint64_t len);
int hole_walk(int fd, uint64_t bytes, hole_fn fn, void *arg);
/* The same for [offset, offset + len), at the cost of that range; of all up to the next hole,
 * wherever it is, before Linux 6.5 and where cachestat(2) is filtered. A page of it that was
 * allocated and never written may be told, too. */
int hole_walk_range(int fd, uint64_t offset, uint64_t len, hole_fn fn, void *arg);

/* The data that was found last; zeros: none. */
struct hole_extent {
	uint64_t data, hole; /* where it begins and ends */
};
/* The same for one range after the other: each begins where that before it ended, or later. The end
 * of data is looked for once, however many ranges lie in it and whatever the kernel can tell; what
 * is punched or written meanwhile may be told as it was before. */
int hole_walk_next(
	int fd, uint64_t offset, uint64_t len, struct hole_extent *known, hole_fn fn, void *arg);

/* words |= bits of populated pages, one word a chunk. 0 or -errno. */
int hole_populated(int fd, uint64_t bytes, uint64_t *words);

/* How much of [0, bytes) is populated, in one call where the file system counts it (tmpfs,
 * hugetlbfs: what lies beyond is counted too, up to bytes), else by hole_walk(). 0 or -errno. */
int hole_measure(int fd, uint64_t bytes, uint64_t *populated_bytes);

/* hole_walk() for a file that this process maps whole at base: presence in the page table proves
 * that a page is populated, and is quick to ask; absence proves nothing, so only absent ranges are
 * asked of the file. base is mapped read-only, and nobody reads through it meanwhile. Falls back to
 * hole_walk() before Linux 6.7. */
int hole_walk_mapped(int fd, uint64_t bytes, const void *base, hole_fn fn, void *arg);

/* hole_populated() by hole_walk_mapped(). */
int hole_populated_mapped(int fd, uint64_t bytes, const void *base, uint64_t *words);

#endif
