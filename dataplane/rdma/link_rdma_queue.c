// SPDX-License-Identifier: BSD-3-Clause
// Posts what the rdma link sends, and its receive buffers, in chains: one doorbell for many. Run by
// the flow's polling core.
//
// Invariants: a request, its segments and its message stay as they are until a completion has
// passed them. The last send of each chain asks for a completion, so whatever is posted completes
// at last. A chain that is taken in part goes on where it was cut; a device that takes nothing and
// owes nothing ends the link.

#include "link_rdma_impl.h"

#include <errno.h>
#include <string.h>

struct ibv_send_wr *rdma_queue_next(struct rdma_queue *q, uint8_t **message)
{
	uint64_t at = q->tail++;
	uint32_t i = at % RDMA_SENDS;
	struct ibv_send_wr *wr = &q->wr[i];

	memset(wr, 0, sizeof(*wr));
	wr->wr_id = at;
	wr->sg_list = &q->sge[i * RDMA_SGES];
	wr->num_sge = 1;
	*message = q->message + (size_t)i * RDMA_MESSAGE_BYTES;
	return wr;
}

void rdma_queue_message(struct rdma_queue *q, struct ibv_send_wr *wr, uint32_t bytes)
{
	size_t at = (wr->wr_id % RDMA_SENDS) * RDMA_MESSAGE_BYTES;

	wr->opcode = IBV_WR_SEND;
	wr->send_flags = q->inlines ? IBV_SEND_INLINE : 0;
	*wr->sg_list = (struct ibv_sge){(uintptr_t)q->message + at, bytes, q->lkey};
}

// Chains the sends that wait; returns the first.
static struct ibv_send_wr *chain(struct rdma_queue *q)
{
	for (uint64_t at = q->posted; at < q->tail; at++) {
		struct ibv_send_wr *wr = &q->wr[at % RDMA_SENDS];
		bool last = at + 1 == q->tail;

		wr->next = last ? NULL : &q->wr[(at + 1) % RDMA_SENDS];
		if (last || (at + 1) % RDMA_SIGNAL == 0)
			wr->send_flags |= IBV_SEND_SIGNALED;
	}
	return &q->wr[q->posted % RDMA_SENDS];
}

// What the device took of the chain: up to `end`.
static void taken(struct rdma_queue *q, uint64_t end)
{
	for (uint64_t at = q->posted; at < end; at++)
		if (q->wr[at % RDMA_SENDS].send_flags & IBV_SEND_SIGNALED)
			q->signalled = at + 1;
	q->posted = end;
	q->waiting_bytes = 0;
}

int64_t rdma_queue_post(struct link_rdma *r)
{
	struct rdma_queue *q = &r->queue;
	struct ibv_send_wr *bad = NULL;
	uint64_t before = q->posted;
	int rc;

	if (q->posted == q->tail)
		return 0;
	rc = r->v->post_send(r->qp, chain(q), &bad);
	if (rc == 0) {
		taken(q, q->tail);
		return (int64_t)(q->posted - before);
	}
	if (bad != NULL && bad->wr_id >= q->posted && bad->wr_id < q->tail)
		taken(q, bad->wr_id);
	if (rc == ENOMEM && (q->posted > before || q->signalled > q->freed))
		return (int64_t)(q->posted - before); // its queue is full: completions make room
	return link_rdma_post_failed(r, "send", rc);
}

void rdma_recv_again(struct link_rdma *r, uint32_t buffer)
{
	struct ibv_recv_wr *wr = &r->recv_wr[buffer];

	wr->next = NULL;
	*r->again_end = wr;
	r->again_end = &wr->next;
}

int64_t rdma_recv_post(struct link_rdma *r)
{
	struct ibv_recv_wr *bad = NULL;
	int rc;

	if (r->again == NULL)
		return 0;
	rc = r->v->post_recv(r->qp, r->again, &bad);
	if (rc != 0)
		return link_rdma_post_failed(r, "receive", rc);
	r->again = NULL;
	r->again_end = &r->again;
	return 1;
}
