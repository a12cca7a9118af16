/* SPDX-License-Identifier: BSD-3-Clause */
/* The balloon's bitmap on its way to the target (law 4): during the passes, what changed since it
 * was told; so the pause carries only the last changes. Control loop only.
 *
 * It travels as blobs (PROTOCOL.md): u32 magic "GWBL", u32 runs, then for each run u64 first chunk,
 * u64 chunks, u64 word: these chunks' pages in the balloon, from now on. Runs ascend and are
 * disjoint, so a blob costs at most one walk over the guest's chunks. */
#ifndef GODWIT_CONTROL_CARRY_H
#define GODWIT_CONTROL_CARRY_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "region.h"

#define CARRY_MAGIC      0x4c425747u
#define CARRY_HEAD_BYTES 8u
#define CARRY_RUN_BYTES  24u
#define CARRY_RUNS       8192u /* of one blob */
#define CARRY_BLOB_BYTES (CARRY_HEAD_BYTES + CARRY_RUNS * CARRY_RUN_BYTES)

struct carry {
	uint64_t nchunks;
	const uint64_t *now; /* the source's, as of the last look; changes between calls */
	uint64_t *told;      /* what the target knows */
	uint64_t cursor;     /* all before it is told; */
	uint64_t end;        /* nothing was ever in the balloon from here on */
};

/* 0 or -ENOMEM; fini either way. */
int carry_init(struct carry *c, const uint64_t *now, uint64_t nchunks);
void carry_fini(struct carry *c);

/* now may have changed, in chunks [first, end). */
void carry_look(struct carry *c, uint64_t first, uint64_t end);
/* The next blob into buf: its bytes, or 0: the target knows all. */
size_t carry_next(struct carry *c, uint8_t buf[CARRY_BLOB_BYTES]);

/* Target: a blob into words (one a chunk). -EPROTO with e set for anything that is none, and then
 * words hold a part of it. */
int carry_take(const uint8_t *data, size_t bytes, uint64_t *words, uint64_t nchunks, struct err *e);

#endif
