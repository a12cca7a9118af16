/* SPDX-License-Identifier: BSD-3-Clause */
/* The first content of pages that are holes at the target. To let the core fault them in one by one
 * costs more than all else it does; one system call for a run of pages costs about half. */
#ifndef GODWIT_DATAPLANE_FRESH_H
#define GODWIT_DATAPLANE_FRESH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "region.h"

/* Pages [offset, offset + bytes) of the mapped region's file are holes and are to hold `pages`.
 * alone: no other core writes to this guest's files now. True when they are written. False when the
 * caller is to write them through the mapping, which is then cheaper, or says what is wrong: a file
 * that shrank or has no room ends in the caller's guard. Exactly these pages get memory. */
bool fresh_write(const struct region *r, uint64_t offset_bytes, const uint8_t *pages, size_t bytes,
	bool alone);

#endif
