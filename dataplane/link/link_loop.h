/* SPDX-License-Identifier: BSD-3-Clause */
/* The loop link: both ends in one process, with a wire between them that does what it is told. */
#ifndef GODWIT_DATAPLANE_LINK_LOOP_H
#define GODWIT_DATAPLANE_LINK_LOOP_H

#include "link.h"

#define LOOP_REORDER 8u /* a frame may overtake so many */
#define LOOP_COPIES  8u /* second deliveries under way, at most */
#define LOOP_BURST   4u /* frames delivered in one poll, at most */
#define LOOP_ANSWERS (2 * LINK_INFLIGHT)

/* A frame as the source queued it. */
struct loop_slot {
	struct frame hdr;
	uint8_t wire[FRAME_HDR_BYTES];
	unsigned nseg;
	struct iovec seg[LINK_SEGS];
	bool gone;     /* delivered or lost: its segments are free */
	bool answered; /* and put among done */
};

/* What a second delivery of a frame needs. */
struct loop_copy {
	bool used;
	bool stale; /* only after the barrier of its pass; else before it */
	uint32_t pass;
	uint8_t wire[FRAME_HDR_BYTES];
	uint32_t payload_bytes;
	uint8_t *payload; /* FRAME_PAYLOAD_BYTES */
};

struct loop_end {
	struct link link; /* first */
	struct loop *loop;
};

struct loop {
	struct loop_end source, target;
	unsigned open; /* ends not yet closed */
	struct link_loop_faults faults;
	uint64_t random;

	struct loop_slot *slot; /* LINK_INFLIGHT, by seq */
	uint64_t oldest;        /* frames below are answered */
	struct loop_copy copy[LOOP_COPIES];
	uint32_t passes; /* whose barrier was delivered */

	struct link_rx rx[LOOP_BURST]; /* [rx_at, rx_n) were delivered and not yet taken */
	uint8_t *payload[LOOP_BURST];
	unsigned rx_at, rx_n;

	struct frame *answer; /* LOOP_ANSWERS; [answer_head, answer_tail) on their way */
	uint64_t answer_head, answer_tail;
	struct link_done *done; /* LOOP_ANSWERS; likewise */
	uint64_t done_head, done_tail;
};

static inline struct loop *loop_of(struct link *l)
{
	return ((struct loop_end *)l)->loop;
}

void link_loop_close(struct link *l);

#endif
