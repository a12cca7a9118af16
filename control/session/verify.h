/* SPDX-License-Identifier: BSD-3-Clause */
/* --verify=memory: a digest of all memory that holds anything, taken by helper threads while the
 * guest is paused. Zero pages and holes count as nothing, so both sides agree whatever is populated
 * where; holes are never read through a mapping (law 12): that would allocate them. The digest is
 * the sum, modulo 2^128, of XXH3-128 over each page that is not zero, seeded with its region and
 * page number. */
#ifndef GODWIT_CONTROL_VERIFY_H
#define GODWIT_CONTROL_VERIFY_H

#include <event2/event.h>
#include <stdint.h>

#include "err.h"
#include "region.h"

struct verify;

struct verify_result {
	int status;      /* 0 or -errno */
	char digest[33]; /* 32 hexadecimal digits */
	uint64_t pages;  /* that are not zero */
	uint64_t ns;
};
typedef void (*verify_fn)(void *arg, const struct verify_result *r);

/* Regions are mapped. left_out: pages that count as holes, a word a chunk, or NULL. Calls done()
 * once from the loop, unless verify_cancel() came first. */
int verify_start(struct verify **v, struct event_base *base, const struct region_map *map,
	const uint64_t *left_out, verify_fn done, void *arg, struct err *e);
/* Stops the threads, waits for them, frees. NULL is allowed. Also after done(). */
void verify_cancel(struct verify *v);

#endif
