/* SPDX-License-Identifier: BSD-3-Clause */
/* Which pages a hugetlbfs file holds. SEEK_DATA takes all of such a file for data, and to read a
 * hole through a mapping would allocate it, a huge page each. */
#ifndef GODWIT_KVM_HOLE_HUGE_H
#define GODWIT_KVM_HOLE_HUGE_H

#include <stdint.h>

#include "hole.h"

/* The file's page size where it is on hugetlbfs, or 0. */
uint64_t hole_huge_page_bytes(int fd);

/* hole_walk_range() for such a file. Free where the file holds all or nothing; otherwise about 1 us
 * a huge page, holes too. Without userfaultfd (before Linux 5.13, or not permitted) [offset, offset
 * + len) counts as populated. */
int hole_huge_walk(int fd, uint64_t offset, uint64_t len, hole_fn fn, void *arg);

/* hole_walk_mapped() for it: where this process maps as many pages as the file holds, only its page
 * table is asked. pm: /proc/self/pagemap. Nobody may read through base meanwhile, and it is mapped
 * read-only, so that the kernel never lets it share page tables with a VMM's mapping. */
int hole_huge_walk_mapped(int fd, int pm, const void *base, uint64_t bytes, hole_fn fn, void *arg);

#endif
