/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of the rdma link share: link_rdma_open.c makes and ends it; link_rdma.c is its row
 * of the link port; link_rdma_queue.c posts sends; link_rdma_source.c and link_rdma_target.c are
 * the two ends; link_rdma_seal.c does what only sealed ones do; link_rdma_error.c says what went
 * wrong; link_rdma_host.c connects.
 *
 * A frame is sent as a message, its header alone; or where it has a payload, header, payload and
 * tag are written to the next slot of the target's ring, in pieces, the last one with the slot's
 * index as immediate data. A queue pair keeps the order, so frames come as they were numbered. The
 * target's answer to a frame is the credit for its receive buffer and its slot: a source has no
 * more than RDMA_FRAMES frames and RDMA_SLOTS slots under way, and each frame has at most two
 * answers, so that a receiver that posts its buffers before it answers is never found without one.
 */
#ifndef GODWIT_DATAPLANE_LINK_RDMA_IMPL_H
#define GODWIT_DATAPLANE_LINK_RDMA_IMPL_H

#include <stdatomic.h>

#include "link.h"
#include "link_rdma_hello.h"
#include "link_rdma_memory.h"
#include "link_rdma_pool.h"
#include "link_rdma_verbs.h"

#define RDMA_FRAMES     128u /* under way, at most; a power of two */
#define RDMA_SLOTS      16u  /* a power of two */
#define RDMA_SLOT_BYTES ((uint32_t)CHUNK_BYTES + 4096u)
/* A slot is written in pieces: devices count their tries for each request, and a loss costs one, so
 * that a long request fails on a network that loses some packets of a hundred. */
#define RDMA_PIECE_BYTES 16384u
/* Segments of a request: a piece of a slot has so many at most, its header and single pages. */
#define RDMA_SGES          (RDMA_PIECE_BYTES / (uint32_t)PAGE_BYTES + 1)
#define RDMA_ANSWERS       (2 * RDMA_FRAMES + 2) /* not yet read by the source, at most */
#define RDMA_SENDS         512u /* posted or to be posted, and not completed; a power of two */
#define RDMA_MESSAGE_BYTES 128u /* room for a header and a tag */
#define RDMA_SIGNAL        16u  /* every so many sends ask for a completion */
#define RDMA_ACK_FRAMES    4u   /* answered at least this often while frames keep coming */
#define RDMA_POST_BYTES    (256u << 10) /* queued: the device is told before the turn ends */
#define RDMA_NO_SEQ        UINT64_MAX

#define RDMA_RECV_ID (UINT64_C(1) << 63) /* wr_id of a receive: this and its buffer's index */

/* The send queue: positions count sends from 0. [freed, posted) are the device's, [posted, tail)
 * wait for the doorbell. A position's request, segment and message buffer are its own until freed
 * has passed it. */
struct rdma_queue {
	struct ibv_send_wr *wr;
	struct ibv_sge *sge; /* RDMA_SGES of each */
	uint8_t *message;    /* RDMA_SENDS of RDMA_MESSAGE_BYTES, registered */
	uint32_t lkey;
	bool inlines; /* the device takes messages with the request */
	uint64_t tail, posted, freed;
	uint64_t signalled; /* a completion is coming for the sends below this */
	uint64_t waiting_bytes;
};

/* A completed receive, in the order of the peer's sends. */
struct rdma_in {
	uint32_t buffer;
	uint32_t bytes;
	uint32_t slot; /* immediate data; RDMA_NO_SLOT: a message in the buffer */
};
#define RDMA_NO_SLOT UINT32_MAX

struct link_rdma {
	struct link link; /* first */
	const struct verbs *v;
	struct ibv_qp *qp;
	struct ibv_cq *cq; /* of sends and receives */
	bool source;
	unsigned mtu;          /* control: wo, when it is up */
	_Atomic int gone;      /* errno, link_rdma_over(). control: wo, lcore: ro */
	struct ibv_wc flushed; /* the first request that was, at flushed_cycles; 0: none */
	uint64_t flushed_cycles;
	uint64_t why_cycles; /* that the reason of a flush has to come */

	struct seal *seal_out, *seal_in; /* NULL: in plain text */
	uint64_t number_out, number_in;
	uint32_t tag_bytes;

	struct rdma_queue queue;
	uint8_t *memory; /* messages, receive buffers, slots: one registration */
	size_t memory_bytes;
	struct ibv_mr *mr;
	uint8_t *slot; /* RDMA_SLOTS of RDMA_SLOT_BYTES: what is sent, or where it comes */

	uint8_t *recv; /* nrecv of RDMA_MESSAGE_BYTES */
	uint32_t nrecv;
	struct ibv_recv_wr *recv_wr; /* by buffer */
	struct ibv_sge *recv_sge;
	struct ibv_recv_wr *again; /* read, to be posted again: a chain by next */
	struct ibv_recv_wr **again_end;
	struct rdma_in *in; /* RDMA_IN; [in_head, in_tail) were not read */
	uint32_t in_head, in_tail;

	/* source, by seq % RDMA_FRAMES */
	struct frame inflight[RDMA_FRAMES];
	uint64_t send_end[RDMA_FRAMES]; /* position after the frame's sends */
	uint64_t slot_end[RDMA_FRAMES]; /* slots used when it was queued */
	bool torn[RDMA_FRAMES];
	uint64_t slots_used, slots_free; /* own ones, counted from 0: [free, used) hold frames */
	uint64_t answered, completed;    /* frames below were answered; left the queue pair */
	uint64_t reported;               /* frames below were returned by done() */
	uint64_t barrier;                /* seq of the barrier under way, or RDMA_NO_SEQ */
	struct frame barrier_ack;
	const struct link_rdma_windows *windows; /* of regions that have no one key, or NULL */
	struct link_rdma_pool *pool; /* of target memory that is registered by turns, or NULL */
	unsigned lane;               /* of the pool */
	struct link_rdma_pool_seen pool_seen;
	const struct link_rdma_memory *from; /* guest memory that the device may read, or NULL */
	bool gathers;                        /* a request may have RDMA_SGES segments */
	uint32_t write_bytes;                /* of pages to their place, in one request, at most */
	uint64_t slots_out;                  /* of the target's ring, counted from 0 */
	const struct link_rdma_key
		*keys;        /* of the target's guest memory; NULL: all goes to slots */
	uint64_t remote_addr; /* of the target's ring */
	uint32_t remote_key;

	/* target */
	uint64_t slots_in;     /* that came, counted from 0 */
	bool direct;           /* pages may come to their place before their header */
	uint8_t *own;          /* sealed: RDMA_SLOT_BYTES that are not the device's */
	uint64_t ack, ack_out; /* next frame to be answered; as last told to the source */

	/* close() gives the link here; NULL: frees it */
	void (*release)(void *arg, struct link *l);
	void *release_arg;
};

#define RDMA_IN 512u /* receives completed and not read, at most; a power of two */

struct link_rdma_config {
	const struct verbs *v;
	struct ibv_pd *pd;
	struct ibv_qp *qp; /* has its queues, and is not connected yet */
	struct ibv_cq *cq; /* of RDMA_SENDS + RDMA_RECVS_MOST completions */
	bool source;
	bool gathers;         /* requests of RDMA_SGES segments */
	uint32_t most_inline; /* bytes that the queue pair takes inline */
	int node;
	void (*release)(void *arg, struct link *l);
	void *release_arg;
};
#define RDMA_RECVS_MOST RDMA_ANSWERS

/* link_rdma_open.c. Registers its memory and posts its receives. 0 or -errno. */
int link_rdma_open(struct link **l, const struct link_rdma_config *c, struct err *e);
/* Target: what the source has to know. */
void link_rdma_offer(const struct link *l, struct rdma_hello_accept *a);
/* Source: what the target said. -EPROTO: nonsense. */
int link_rdma_meet(struct link *l, const struct rdma_hello_accept *a, struct err *e);
/* As link_ops has it. */
int link_rdma_seal(struct link *l, const struct seal_ops *ops, const struct seal_secret *out,
	const struct seal_secret *in, int node, struct err *e);
/* The queue pair is gone. NULL is allowed. */
void link_rdma_free(struct link *l);
void link_rdma_close(struct link *l);

extern const struct link_ops link_rdma;

static inline struct link_rdma *rdma_of(struct link *l)
{
	return (struct link_rdma *)l;
}

/* link_rdma_queue.c */
static inline bool rdma_queue_room(const struct rdma_queue *q, unsigned n)
{
	return RDMA_SENDS - (q->tail - q->freed) >= n;
}
/* The next send, of a message or of what is registered; there is room. */
struct ibv_send_wr *rdma_queue_next(struct rdma_queue *q, uint8_t **message);
/* Puts bytes of its message buffer into the send; opcode SEND. */
void rdma_queue_message(struct rdma_queue *q, struct ibv_send_wr *wr, uint32_t bytes);
/* Rings the doorbell for what waits. Breaks the link where that fails. Returns how many. */
int64_t rdma_queue_post(struct link_rdma *r);
/* Posts receive buffers that were read. */
int64_t rdma_recv_post(struct link_rdma *r);
void rdma_recv_again(struct link_rdma *r, uint32_t buffer);

/* link_rdma_source.c, link_rdma_target.c */
unsigned link_rdma_tx(struct link *l, struct link_tx *f, unsigned n);
unsigned link_rdma_done(struct link *l, struct link_done *d, unsigned n);
int64_t link_rdma_poll_source(struct link_rdma *r);
unsigned link_rdma_rx(struct link *l, struct link_rx *f, unsigned n);
bool link_rdma_answer(struct link *l, const struct frame *f);
/* Queues the answer that waits, where it is time. */
void link_rdma_ack_due(struct link_rdma *r, bool idle);

/* link_rdma_seal.c: as link_tcp.h has them. */
bool link_rdma_put(
	struct link_rdma *r, struct frame *f, const struct iovec *seg, unsigned nseg, uint8_t *p);
bool link_rdma_unseal(struct link_rdma *r, uint8_t *p, uint32_t payload_bytes);

/* link_rdma_error.c: each breaks the link, with its sentence, and returns -errno. */
int64_t link_rdma_failed(struct link_rdma *r, const struct ibv_wc *wc);
int64_t link_rdma_post_failed(struct link_rdma *r, const char *what, int errnum);
int64_t link_rdma_gone(struct link_rdma *r, int errnum);
/* For the control loop: the connection is over, its core is told. The first reason stands: what
 * comes after it follows from it. */
void link_rdma_over(struct link_rdma *r, int errnum);
int64_t link_rdma_wrong(struct link_rdma *r, uint64_t seq, int bad);
int64_t link_rdma_seal_wrong(struct link_rdma *r);
int64_t link_rdma_seal_failed(struct link_rdma *r);

#endif
