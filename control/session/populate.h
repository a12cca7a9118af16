/* SPDX-License-Identifier: BSD-3-Clause */
/* --reserve=populate: all of a guest's memory at the target is allocated before anything comes, by
 * helper threads side by side, under the memory policy of its files. */
#ifndef GODWIT_CONTROL_POPULATE_H
#define GODWIT_CONTROL_POPULATE_H

#include "err.h"
#include "region.h"

struct populate;

/* Regions are mapped writable and hold nothing. */
int populate_start(struct populate **p, const struct region_map *map, struct err *e);
/* 1: all is there, and reads as zeros. 0: not yet. -errno with e set: some of it can't be had. */
int populate_ready(struct populate *p, struct err *e);
/* Stops the threads, waits for the pieces under way, frees. NULL is allowed. */
void populate_free(struct populate *p);

#endif
