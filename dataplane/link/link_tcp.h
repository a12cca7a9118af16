/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of the tcp link share: link_tcp_open.c makes and ends it, link_tcp_source.c and
 * link_tcp_target.c run it, link_tcp_seal.c does what only sealed ones do.
 *
 * On the wire: frames one after another from source to target, each a header and its payload;
 * answers of one header each the other way. ACK there names the first frame that is not yet
 * answered (frame.h), so one ACK answers many.
 *
 * Sealed: each header, of frames and of answers, is in the clear and authenticated; its payload
 * follows encrypted, then the tag of 16 bytes. Packet numbers are not sent: they count what each
 * direction has sent from 0, so what is left out, repeated or moved opens with the wrong number. */
#ifndef GODWIT_DATAPLANE_LINK_TCP_H
#define GODWIT_DATAPLANE_LINK_TCP_H

#include "link.h"

#define TCP_TX_FRAMES 64u   /* queued and not yet taken by the kernel; a power of two */
#define TCP_IOV       4096u /* their segments, headers included; a power of two */
#define TCP_IOV_MAX   1024u /* segments of one call, IOV_MAX */
#define TCP_ANSWERS   64u   /* answers read or queued at a time */
/* Of the receiver's ring: a page multiple that holds a whole frame and part of the next. In use
 * again before it has left the core's L2. */
#define TCP_RING_BYTES   ((size_t)768 << 10)
#define TCP_ACK_FRAMES   256u /* answered at least this often while frames keep coming */
#define TCP_SOCKET_BYTES (4 << 20)

#define TCP_NO_SEQ UINT64_MAX

/* Of a sealed answer, and of the room for any. */
#define TCP_ANSWER_BYTES (FRAME_HDR_BYTES + SEAL_TAG_BYTES)
/* Of a sealed source's ring: a page multiple that holds two frames. */
#define TCP_STAGE_BYTES ((size_t)768 << 10)

struct link_tcp {
	struct link link; /* first */
	int fd;
	bool source;

	/* NULL: in plain text */
	struct seal *seal_out, *seal_in;
	uint64_t number_out, number_in; /* of the next packet each way */
	uint32_t tag_bytes;             /* that end each packet: 0 or SEAL_TAG_BYTES */

	/* source */
	uint8_t *stage; /* sealed: TCP_STAGE_BYTES, mapped twice in a row; what is queued_bytes */
	struct iovec *iov; /* ring of TCP_IOV; [iov_head, iov_tail) wait for the kernel */
	uint32_t iov_head, iov_tail;
	uint64_t queued_bytes, out_bytes; /* of the stream so far */
	uint64_t end[TCP_TX_FRAMES];      /* where a frame ends in the stream, by seq */
	uint8_t (*hdr)[FRAME_HDR_BYTES];  /* TCP_TX_FRAMES, by seq */
	struct frame *inflight;           /* LINK_INFLIGHT, by seq */
	uint64_t *torn;                   /* a bit each */
	uint64_t answered;                /* frames below have their answer */
	uint64_t reported;                /* frames below were returned by done() */
	uint64_t barrier;                 /* seq of the barrier under way, or TCP_NO_SEQ */
	struct frame barrier_ack;
	uint64_t acked_before; /* bytes of the connection, before the link began */
	unsigned polls;        /* since answers were looked for */

	/* target */
	uint8_t *ring; /* TCP_RING_BYTES, mapped twice in a row */
	uint64_t head; /* in the stream: [head, tail) is in the ring, */
	uint64_t at;   /* frames before `at` were returned by rx() */
	uint64_t tail;
	uint64_t ack, ack_out; /* next frame to be answered; as last told to the source */
	uint8_t busy_out;      /* told with it */

	/* both: answers read (source) or to be written (target) */
	uint8_t *answers;
	size_t answer_at, answer_end;
};

void link_tcp_close(struct link *l);

/* link_tcp.c: each breaks the link, with its sentence, and returns -errno. */
int64_t link_tcp_broken_sys(struct link_tcp *t, const char *what);
int64_t link_tcp_peer_left(struct link_tcp *t);
int64_t link_tcp_said_bye(struct link_tcp *t, const struct frame *f);
int64_t link_tcp_wrong(struct link_tcp *t, uint64_t seq, int bad);
int64_t link_tcp_seal_wrong(struct link_tcp *t);
int64_t link_tcp_seal_failed(struct link_tcp *t);
/* errno says that the socket will take or give more later. */
bool link_tcp_would_block(void);

/* link_tcp_source.c, link_tcp_target.c: the functions of the port. */
unsigned link_tcp_tx(struct link *l, struct link_tx *f, unsigned n);
unsigned link_tcp_done(struct link *l, struct link_done *d, unsigned n);
int64_t link_tcp_poll_source(struct link_tcp *t);
unsigned link_tcp_rx(struct link *l, struct link_rx *f, unsigned n);
/* Control thread: remembers what went over the socket before. */
void link_tcp_begin(struct link_tcp *t);
bool link_tcp_answer(struct link *l, const struct frame *f);
int64_t link_tcp_poll_target(struct link_tcp *t);

/* link_tcp_seal.c. Source: the frame, whose header is encoded in hdr, goes to the stage, which has
 * room for it. False: the seal failed. */
bool link_tcp_stage(struct link_tcp *t, const struct link_tx *f, const uint8_t *hdr);
/* Encodes an answer to where p has room for TCP_ANSWER_BYTES, and seals it where the link does. */
bool link_tcp_put(struct link_tcp *t, struct frame *f, uint8_t *p);
/* Opens the packet that stands at p: a header, so many bytes of payload, a tag; in place. True
 * where the link is not sealed. */
bool link_tcp_unseal(struct link_tcp *t, uint8_t *p, uint32_t payload_bytes);

#endif
