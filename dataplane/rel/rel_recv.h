/* SPDX-License-Identifier: BSD-3-Clause */
/* The target's end of a reliable flow: which parts of which frames are there, what may come, what
 * to acknowledge.
 *
 * Parts come out as they arrive, to be put at once where they belong: a raw frame's into guest
 * memory, any other's into a ring of ring_bytes (and FRAME_PAYLOAD_BYTES behind it) at pos %
 * ring_bytes, where a payload then lies in one piece. Frames come out when all their parts are
 * there, in any order; a barrier after all frames before it. Each frame that was taken must be
 * answered; its place in the ring is free for others only then.
 *
 * Memory is bounded by the configuration: a part beyond what was granted is dropped. */
#ifndef GODWIT_DATAPLANE_REL_RECV_H
#define GODWIT_DATAPLANE_REL_RECV_H

#include "frame.h"
#include "rel.h"

#define REL_RECV_NUMBERS 4096u /* packets older than the newest by this are dropped */

enum rel_answer { REL_PLACED, REL_TORN, REL_LOST };

struct rel_recv_frame {
	uint64_t pos;
	struct frame hdr;
	uint8_t raw[FRAME_HDR_BYTES]; /* of hdr, as it came */
	uint32_t missing;             /* lines */
	uint8_t state;
};

struct rel_recv {
	struct rel c;
	struct rel_recv_frame *frame; /* [frames], at seq % frames */
	uint64_t *line;               /* [frames][REL_LINE_WORDS]: there */
	uint64_t *answer;             /* [frames / 64]: answered; a bit a slot */
	uint64_t *ready;              /* [frames]: seqs that are whole, in a ring */
	uint64_t ready_head, ready_tail;
	uint64_t answered;             /* all frames below are answered or given up */
	uint64_t answered_pos;         /* where the payload of frame `answered` begins */
	uint64_t low;                  /* all frames below were taken or given up */
	uint64_t settled, settled_pos; /* what the source says */
	uint64_t top;                  /* one more than the highest frame answered */

	uint64_t mark[PACKET_ACK_MARKS]; /* answered, not placed, and the source may not know */
	unsigned nmarks;
	uint16_t first_mark; /* its number */
	bool has_barrier;
	uint64_t barrier_seq;
	uint8_t barrier[FRAME_HDR_BYTES];

	bool any;
	uint64_t largest, largest_ns;
	uint64_t number[REL_RECV_NUMBERS / 64]; /* which came, at number % REL_RECV_NUMBERS */
	uint32_t ce;
	uint32_t unacked;
	uint8_t busy; /* of this core, for ACKs: struct link's */
	uint64_t ack_at_ns;
};

/* A part that came. */
struct rel_part {
	const struct frame *hdr; /* of its frame; valid until the frame is answered */
	uint64_t pos;            /* of the frame's payload */
	uint32_t offset, bytes;
	const uint8_t *data;
	bool whole; /* it was the last one */
};

size_t rel_recv_bytes(const struct rel_config *cfg);
/* mem: rel_recv_bytes() of zeros, aligned to 64. */
void rel_recv_init(struct rel_recv *r, const struct rel_config *cfg, void *mem, uint64_t now_ns);

/* A datagram came; ce: the network marked it. True: *part is to be put in its place before the
 * next call. Bad ones are counted and dropped. */
bool rel_recv_packet(struct rel_recv *r, uint64_t now_ns, const uint8_t *buf, size_t len, bool ce,
	struct rel_part *part);
/* The next frame that is whole: its header and where its payload is. */
bool rel_recv_take(struct rel_recv *r, const struct frame **hdr, uint64_t *pos);
/* Answers a frame that was taken. False: try again after the source has heard of earlier ones. */
bool rel_recv_answer(struct rel_recv *r, uint64_t now_ns, uint64_t seq, enum rel_answer a);
/* Answers the barrier that was taken, with a frame of type BARRIER_ACK, whose seq is its. */
void rel_recv_answer_barrier(struct rel_recv *r, uint64_t now_ns, const struct frame *f);

bool rel_recv_next_packet(struct rel_recv *r, uint64_t now_ns, struct rel_out *o);
void rel_recv_timer(struct rel_recv *r, uint64_t now_ns);
uint64_t rel_recv_deadline(const struct rel_recv *r);

/* rel_recv_ack.c, for rel_recv.c */
void rel_recv_ack_soon(struct rel_recv *r, uint64_t now_ns);
bool rel_recv_seen(const struct rel_recv *r, uint64_t number);
void rel_recv_count(struct rel_recv *r, uint64_t now_ns, const struct packet *p, bool ce);

#endif
