/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest page frames of 4 KiB, as virtio-balloon names them, to pages of regions. */
#ifndef GODWIT_KVM_PFN_H
#define GODWIT_KVM_PFN_H

#include <stdint.h>

#include "region.h"

/* Calls fn for each run of pages (chunk * 64 + bit) that the views of address space 0 show at guest
 * frames [pfn, pfn + n), in order. -EFAULT, and fn is not called at all, where a frame is not shown
 * by any; 0 otherwise. */
typedef void (*pfn_fn)(void *arg, uint64_t page, uint64_t n);
int pfn_pages(const struct region_map *map, uint64_t pfn, uint64_t n, pfn_fn fn, void *arg);

#endif
