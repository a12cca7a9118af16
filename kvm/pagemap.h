/* SPDX-License-Identifier: BSD-3-Clause */
/* PAGEMAP_SCAN: asks the kernel which pages of a mapping are in which state, and, on demand,
 * write-protects those that match in the same step. The kernel's documentation is
 * Documentation/admin-guide/mm/pagemap.rst; headers older than Linux 6.7 lack the definitions, so
 * they stand here under names of our own. */
#ifndef GODWIT_KVM_PAGEMAP_H
#define GODWIT_KVM_PAGEMAP_H

#include <stdint.h>
#include <sys/types.h>

/* States of a page: struct page_region's categories. */
#define PAGEMAP_WRITTEN (UINT64_C(1) << 1) /* since it was write-protected */
#define PAGEMAP_PRESENT (UINT64_C(1) << 3) /* in the page table */
#define PAGEMAP_SWAPPED (UINT64_C(1) << 4) /* not present, but its entry holds something */
#define PAGEMAP_HUGE    (UINT64_C(1) << 6) /* mapped by a huge page, transparent or not */

/* Which pages match, as the kernel evaluates it: flip the bits of `inverted`, then all of `all` and
 * at least one of `any` (0: none needed) must be set. The states in `report` are told, as they are.
 */
struct pagemap_query {
	uint64_t inverted;
	uint64_t all;
	uint64_t any;
	uint64_t report; /* not 0 */
	int protect;     /* 1: write-protect what matches */
};

/* Opens /proc/PID/pagemap; 0: of this process. fd or -errno. */
int pagemap_open(pid_t pid);

/* Calls fn for each run of matching pages of one state in [addr, addr + bytes) of that process, in
 * order, as offsets from addr. What is not mapped is passed over. fn returns 0 to go on; another
 * value ends the walk and is returned. Otherwise 0, or -errno: ENOTTY before Linux 6.7, EPERM where
 * protection is asked for and not registered. */
typedef int (*pagemap_fn)(void *arg, uint64_t offset, uint64_t bytes, uint64_t state);
int pagemap_walk(int fd, const struct pagemap_query *q, uint64_t addr, uint64_t bytes,
	pagemap_fn fn, void *arg);

#endif
