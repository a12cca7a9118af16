/* SPDX-License-Identifier: BSD-3-Clause */
/* Dirty source "vmm-writes": pages that the VMM itself says it wrote. */
#ifndef GODWIT_KVM_VMM_WRITES_H
#define GODWIT_KVM_VMM_WRITES_H

#include <stdint.h>

#include "source.h"

/* Pages [page, page + n) in the chunk numbering (chunk * 64 + bit) were written; they exist. After
 * the last byte. Lock-free, any thread; one fence and one load while the source is stopped. */
void vmm_writes_mark(struct source *s, uint64_t page, uint64_t n);

#endif
