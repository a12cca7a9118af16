/* SPDX-License-Identifier: BSD-3-Clause */
/* What seal.c, which runs seals, and seal_open.c, which makes them, share. */
#ifndef GODWIT_DATAPLANE_SEAL_IMPL_H
#define GODWIT_DATAPLANE_SEAL_IMPL_H

#include "seal.h"

#define SEAL_EPOCHS 3u /* before, now, next */
#define SEAL_NOW    1u

struct seal_epoch {
	struct seal_cipher *cipher;
	uint8_t iv[SEAL_NONCE_BYTES];
};

struct seal {
	struct seal_epoch key[SEAL_EPOCHS]; /* before the first epoch: random bytes */
	uint64_t epoch;                     /* of key[SEAL_NOW] */
	uint64_t next;                      /* above the newest number that was sealed, or opened */
	uint64_t seen[SEAL_WINDOW / 64];
};

/* Makes next the epoch that follows from. False when the library failed. */
bool seal_next_epoch(struct seal_epoch *next, struct seal_epoch *from);

#endif
