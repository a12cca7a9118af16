/* SPDX-License-Identifier: BSD-3-Clause */
/* The one list of counters: it gives the names, the API's fields and the text. A flow's counters
 * are written by its lcore and read by control, with relaxed atomics; sums over flows are
 * control's. */
#ifndef GODWIT_DATAPLANE_STATS_H
#define GODWIT_DATAPLANE_STATS_H

#include <stdatomic.h>
#include <stdint.h>

#include "cpu.h"

/* name, help */
#define STATS_LIST(X)                                                                              \
	X(pages_data, "pages sent with content")                                                   \
	X(pages_deflate, "pages of those sent by deflate")                                         \
	X(pages_lz4, "pages of those sent by lz4")                                                 \
	X(pages_zstd, "pages of those sent by zstd")                                               \
	X(pages_uncopied, "pages of those that an RDMA device read where they lie")                \
	X(pages_direct, "pages of those that an RDMA device wrote to their place")                 \
	X(pages_keyless, "pages of those that it would have, but was not registered to")           \
	X(pages_zero, "pages sent as zero")                                                        \
	X(pages_hole, "pages sent as holes")                                                       \
	X(pages_torn, "pages whose frame was torn and will be sent again")                         \
	X(pages_lost, "pages whose frame was lost and will be sent again")                         \
	X(frames, "frames sent or placed")                                                         \
	X(frames_torn, "frames refused because their checksum did not match")                      \
	X(frames_stale, "frames of a closed pass that were dropped")                               \
	X(frames_twice, "frames that had been placed already and were dropped")                    \
	X(bytes_pages, "bytes of guest memory covered by the frames")                              \
	X(bytes_raw, "bytes of page content before the codec")                                     \
	X(bytes_encoded, "bytes of page content after the codec")                                  \
	X(bytes_wire, "bytes on the wire, headers and answers included")                           \
	X(cycles_claim, "cycles claiming chunks")                                                  \
	X(cycles_scan, "cycles scanning for zero pages")                                           \
	X(cycles_encode, "cycles staging, encoding and summing")                                   \
	X(cycles_seal, "cycles sealing and opening")                                               \
	X(cycles_send, "cycles in the link, sending")                                              \
	X(cycles_recv, "cycles in the link, receiving")                                            \
	X(cycles_decode, "cycles checking and decoding")                                           \
	X(cycles_place, "cycles writing guest memory")                                             \
	X(cycles_idle, "cycles with nothing to do, asleep too")

enum stats_id {
#define X(name, help) STAT_##name,
	STATS_LIST(X)
#undef X
		STATS
};

struct stats {
	_Atomic uint64_t v[STATS]; /* lcore: rw, control: ro */
} __cacheline;

extern const char *const stats_name[STATS];
extern const char *const stats_help[STATS];

/* Owner only: no other writer, so a plain add on a relaxed atomic. */
static inline void stats_add(struct stats *s, enum stats_id i, uint64_t n)
{
	atomic_store_explicit(&s->v[i], atomic_load_explicit(&s->v[i], memory_order_relaxed) + n,
		memory_order_relaxed);
}

static inline uint64_t stats_get(const struct stats *s, enum stats_id i)
{
	return atomic_load_explicit(&((struct stats *)s)->v[i], memory_order_relaxed);
}

/* sum += s, counter by counter. */
void stats_sum(uint64_t sum[STATS], const struct stats *s);

#endif
