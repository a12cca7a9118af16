/* SPDX-License-Identifier: BSD-3-Clause */
/* The balloon (law 4): pages that the guest gave up, and tells before it uses them again. One bit a
 * page, in memory that is shared with the daemon. */
#ifndef GODWIT_KVM_BALLOON_H
#define GODWIT_KVM_BALLOON_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "region.h"

struct balloon {
	const struct region_map *map;
	uint64_t *words;       /* any thread: or, and-not */
	atomic_bool used;      /* a page ever was in it: words may hold bits */
	atomic_bool must_tell; /* VIRTIO_BALLOON_F_MUST_TELL_HOST was negotiated */
};

/* A page leaves the balloon: the guest may use it after this returns. */
typedef void (*balloon_fn)(void *arg, uint64_t page, uint64_t n);

/* words: of the whole map, zeros; the caller's. */
void balloon_init(struct balloon *b, const struct region_map *map, uint64_t *words);

/* The feature was negotiated, or is not any more (device reset): then every page leaves. */
void balloon_set(struct balloon *b, bool must_tell, balloon_fn leaves, void *arg);

/* Guest frames [pfn, pfn + n). -EFAULT: not all are memory, nothing was done. Inflating without
 * must_tell does nothing. */
int balloon_inflate(struct balloon *b, uint64_t pfn, uint64_t n);
int balloon_deflate(struct balloon *b, uint64_t pfn, uint64_t n, balloon_fn leaves, void *arg);

/* The guest came with these pages of chunk in its balloon; before it runs. */
void balloon_take_over(struct balloon *b, uint64_t chunk, uint64_t bits);

#endif
