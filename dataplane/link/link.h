/* SPDX-License-Identifier: BSD-3-Clause */
/* The link port: carries the frames of one flow, and the target's answers back. One lcore runs all
 * functions of one link but open and close. Nothing blocks; nothing allocates after open.
 *
 * Source side: tx() queues frames, poll() moves bytes both ways, done() returns what the target has
 * answered. Segments of a frame must stay valid until its seq is below link.sent (for tcp: the
 * kernel has copied them), those of a raw frame, which are guest memory, as long as the link; live
 * guest pages may change meanwhile, that is law 10's case.
 * Target side: poll(), rx() returns frames with their payload, answer() sends ACK, TORN,
 * BARRIER_ACK. Both: a broken link has error != 0 for good, with a sentence in why; no call on it
 * does harm. */
#ifndef GODWIT_DATAPLANE_LINK_H
#define GODWIT_DATAPLANE_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "err.h"
#include "frame.h"
#include "seal.h"

#define LINK_SEGS     (CHUNK_PAGES)
#define LINK_INFLIGHT 4096u /* frames not yet answered, at most; a power of two */

/* A frame to send. hdr.seq is the link's to set: tx() numbers frames as it accepts them. */
struct link_tx {
	struct frame hdr;
	/* Set by tx(), of raw pages. uncopied: a device reads them where they lie, until it is
	 * done. direct: it writes them to their place; keyless: it would, but that is not
	 * registered now. */
	bool uncopied, direct, keyless;
	unsigned nseg;
	struct iovec seg[LINK_SEGS]; /* the payload; sum is hdr.payload_bytes */
};

/* A frame received. payload is valid until the next poll(). hdr passed frame_decode() only. placed:
 * the sink took its pages as they came; payload is NULL then. */
struct link_rx {
	struct frame hdr;
	const uint8_t *payload;
	bool placed;
};

/* Where a target's link may put the pages of a raw frame as they come, in parts: asked once a
 * frame, before its first part. Returns where the chunk lies in memory (page n of it at n *
 * PAGE_BYTES), or NULL: the frame is to be kept whole and handed out by rx(). */
struct link_sink {
	uint8_t *(*begin)(void *arg, const struct frame *f);
	/* For links whose device has placed the pages of a raw frame before its header came: may
	 * that be? False: the frame breaks a rule. */
	bool (*came)(void *arg, const struct frame *f);
	void *arg;
};

enum link_status { LINK_PLACED, LINK_TORN, LINK_LOST, LINK_BARRIER };

/* What became of a frame. For BARRIER, hdr is the target's BARRIER_ACK; else the frame as sent. */
struct link_done {
	enum link_status status;
	struct frame hdr;
};

struct link;

struct link_ops {
	const char *name;
	/* Takes up to n frames, encodes their headers (sets hdr.seq and hdr.hdr_crc in f, so that
	 * the caller can sum them), returns how many; fewer where it is full. */
	unsigned (*tx)(struct link *l, struct link_tx *f, unsigned n);
	/* Moves bytes. Returns a count of bytes or packets moved, 0 for none, -errno once broken.
	 */
	int64_t (*poll)(struct link *l);
	unsigned (*done)(struct link *l, struct link_done *d, unsigned n);
	unsigned (*rx)(struct link *l, struct link_rx *f, unsigned n);
	/* Queues one answer; false when full, then poll and try again. f->seq names the frame that
	 * is answered, for ACK too. ACKs are in the order of the frames and may be merged. */
	bool (*answer)(struct link *l, const struct frame *f);
	/* Lcore, once the flow is to stop, again and again until true: says goodbye. Nothing of the
	 * lcore's touches the link after that. NULL: nothing is to be said. */
	bool (*leave)(struct link *l);
	/* Control thread, before the flow is made: seals what it sends with out and opens what
	 * comes with in, all of it. The secrets are this link's alone. 0 or -errno; then the link
	 * is only good for close(). NULL: it can't. */
	int (*seal)(struct link *l, const struct seal_ops *ops, const struct seal_secret *out,
		const struct seal_secret *in, int node, struct err *e);
	/* Frees it; NULL is allowed. Control thread, after the lcore let go of the link. */
	void (*close)(struct link *l);
};

/* First in each row's struct. lcore: rw; control: ro (sent, error), after close anything. */
struct link {
	const struct link_ops *ops;
	uint64_t next_seq; /* of the frame that tx() accepts next */
	uint64_t sent;     /* frames below have left their segments */
	uint64_t tx_bytes; /* bytes on the wire so far, headers and answers included */
	uint64_t rx_bytes;
	/* What the target gets is what was read: payload_crc is 0 and nobody looks at it. Set
	 * before the flow is made. */
	bool sealed;
	/* The link checks each piece of a payload before it is used, so that raw payloads need no
	 * checksum of their own: theirs is 0. Set by open. */
	bool sums_parts;
	/* For who chooses by backlog: frames accepted that have not begun to leave, as of the last
	 * poll; and bytes that the link holds beyond them while it can't take more. 0: none. */
	unsigned behind;
	uint64_t buffer_bytes;
	/* The same, where it wants_held, which is set as the flow is made, and the link tells_held:
	 * bytes of tx_bytes that had reached the other end when it told last, and bytes of all
	 * frames accepted that waited then, or came since, to be put on the wire. */
	bool wants_held, tells_held;
	uint64_t left_bytes, held_bytes;
	uint64_t told_cycles; /* when that was, by cpu.h */
	/* How much of its time this end's core had work lately, of 255; 0: not known. Written by
	 * the lcore's loop. The target's links tell it where tells_busy, which control sets before
	 * the flow is made; peer_busy is what the target told the source. */
	uint8_t busy, peer_busy;
	bool tells_busy;
	unsigned slots;               /* encoded payloads that it may hold at a time; 0: few */
	const struct link_sink *sink; /* target; NULL: none. Set before the lcore gets the link */
	int error;                    /* 0, or positive errno */
	struct err why;
};

/* What an ACK of this link tells. */
static inline uint8_t link_busy(const struct link *l)
{
	return l->tells_busy ? l->busy : 0;
}

extern const struct link_ops link_tcp;
extern const struct link_ops link_loop;

/* tcp: takes over a connected socket. node: NUMA node for buffers or -1. source: which side.
 * Sets it non-blocking, with TCP_NODELAY. 0 or -errno. */
int link_tcp_open(struct link **l, int fd, bool source, int node, struct err *e);
/* Its seal, as link_ops has it. */
int link_tcp_seal(struct link *l, const struct seal_ops *ops, const struct seal_secret *out,
	const struct seal_secret *in, int node, struct err *e);

/* loop: in one process; what the wire does to frames is decided by a seeded generator. Raw payload
 * is copied from its segments when it is delivered, not when it is queued, so that writes between
 * tear frames as they do on a card. Single-threaded: both ends are polled by one thread. */
struct link_loop_faults {
	uint64_t seed;
	/* each in parts of 65536 */
	uint32_t lose, duplicate, reorder, corrupt, delay, lose_answer;
	uint32_t stale; /* a frame is delivered again in a later pass */
};
int link_loop_pair(struct link **source, struct link **target, const struct link_loop_faults *f,
	struct err *e);

#endif
