/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest's memory before anything is copied, by helper threads side by side. At the target:
 * allocated under the memory policy of its files (--reserve=populate), or mapped where it was
 * allocated ahead. At the source: what is no hole is mapped (--prepare). The polling cores would
 * pay for that page by page. */
#ifndef GODWIT_CONTROL_POPULATE_H
#define GODWIT_CONTROL_POPULATE_H

#include "err.h"
#include "region.h"

struct populate;

enum populate_how {
	POPULATE_ALLOCATE, /* the regions hold nothing; then all is there, and reads as zeros */
	POPULATE_MAP,      /* regions of which not all is allocated are left as they are */
	POPULATE_MAP_DATA, /* what is no hole is mapped; holes stay holes */
};

/* Regions are mapped, writable for POPULATE_ALLOCATE and POPULATE_MAP. */
int populate_start(
	struct populate **p, const struct region_map *map, enum populate_how how, struct err *e);
/* 1: done. 0: not yet. -errno with e set: some of it can't be had. */
int populate_ready(struct populate *p, struct err *e);
/* Stops the threads, waits for the pieces under way, frees. NULL is allowed. */
void populate_free(struct populate *p);

#endif
