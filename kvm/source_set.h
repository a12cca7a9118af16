/* SPDX-License-Identifier: BSD-3-Clause */
/* Several dirty sources as one (law 2): what one of them reports is reported, and each arms and
 * keeps its own. A page that two report is armed in both, and sent once. */
#ifndef GODWIT_KVM_SOURCE_SET_H
#define GODWIT_KVM_SOURCE_SET_H

#include "source.h"

#define SOURCE_SET_MOST 4u

/* An empty set for a map of nchunks. NULL: out of memory. */
struct source *source_set_new(uint64_t nchunks);

/* Adds a source, which is the set's to close from then on; while all are stopped. 0 or -ENOSPC. */
int source_set_add(struct source *set, struct source *s);

extern const struct source_ops source_set;

#endif
