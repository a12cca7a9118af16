// SPDX-License-Identifier: BSD-3-Clause
// The rdma link while it runs: completions in, doorbells out. Run by the flow's polling core; no
// system call but what the device's own library makes (none on hardware).
//
// Invariants: every frame is reported by done() once, in order, after the target answered it and
// the queue pair let go of it. What the peer says is checked against what was really sent. Nothing
// that came reaches guest memory before its header was checked. Receive buffers are posted again
// before the answer goes out that lets the peer use them.

#include "link_rdma_impl.h"

#include "cpu.h"

#include <arpa/inet.h>

#define BURST 32

static int64_t take_receive(struct link_rdma *r, const struct ibv_wc *wc)
{
	struct rdma_in *in = &r->in[r->in_tail % RDMA_IN];
	uint64_t buffer = wc->wr_id & ~RDMA_RECV_ID;

	if (buffer >= r->nrecv || r->in_tail - r->in_head == RDMA_IN)
		return link_rdma_wrong(r, r->link.next_seq, -FRAME_BAD_ORDER);
	*in = (struct rdma_in){(uint32_t)buffer, wc->byte_len, RDMA_NO_SLOT};
	if (wc->opcode == IBV_WC_RECV_RDMA_WITH_IMM) {
		in->slot = ntohl(wc->imm_data);
		if (in->slot >= RDMA_SLOTS)
			return link_rdma_wrong(r, r->link.next_seq, -FRAME_BAD_LENGTH);
	}
	r->in_tail++;
	return 0;
}

static int64_t take_one(struct link_rdma *r, const struct ibv_wc *wc)
{
	if (wc->status == IBV_WC_WR_FLUSH_ERR) {
		if (r->flushed_cycles == 0) {
			r->flushed = *wc;
			r->flushed_cycles = cpu_cycles();
		}
		return 0;
	}
	if (wc->status != IBV_WC_SUCCESS)
		return link_rdma_failed(r, wc);
	if (wc->wr_id & RDMA_RECV_ID)
		return take_receive(r, wc);
	if (wc->wr_id >= r->queue.freed && wc->wr_id < r->queue.posted)
		r->queue.freed = wc->wr_id + 1;
	return 0;
}

static int64_t take_completions(struct link_rdma *r)
{
	struct ibv_wc wc[BURST];
	int64_t got = 0;
	int n;

	do {
		n = r->v->poll_cq(r->cq, BURST, wc);
		if (n < 0)
			return link_rdma_post_failed(r, "complete", -n);
		for (int i = 0; i < n; i++) {
			int64_t rc = take_one(r, &wc[i]);

			if (rc < 0)
				return rc;
		}
		got += n;
	} while (n == BURST);
	return got;
}

static int64_t poll_target(struct link_rdma *r, bool idle)
{
	int64_t posted = rdma_recv_post(r), sent;

	if (posted < 0)
		return posted;
	link_rdma_ack_due(r, idle);
	sent = rdma_queue_post(r);
	return sent < 0 ? sent : posted + sent;
}

// Its queue pair does nothing any more, because something else went wrong. That is in a completion,
// which may come after this one from the other queue, or is told to the control loop, which looks
// every LINK_RDMA_LOOK_MS. A target still hands out what came; a source's answers are not worth it.
static int64_t poll_flushed(struct link_rdma *r, int gone)
{
	if (!r->source && r->in_head != r->in_tail)
		return 0;
	if (gone != 0)
		return link_rdma_gone(r, gone);
	if (cpu_cycles() - r->flushed_cycles < r->why_cycles)
		return 0;
	return link_rdma_failed(r, &r->flushed);
}

static int64_t rdma_poll(struct link *l)
{
	struct link_rdma *r = rdma_of(l);
	int64_t got, moved;
	int gone;

	if (l->error != 0)
		return -l->error;
	/* acquire: what came before the connection went is in the completion queue */
	gone = atomic_load_explicit(&r->gone, memory_order_acquire);
	got = take_completions(r);
	if (got < 0)
		return got;
	if (r->flushed_cycles != 0)
		return poll_flushed(r, gone);
	if (gone != 0 && got == 0 && r->in_head == r->in_tail)
		return link_rdma_gone(r, gone);
	moved = r->source ? link_rdma_poll_source(r) : poll_target(r, got == 0);
	return moved < 0 ? moved : got + moved;
}

const struct link_ops link_rdma = {
	.name = "rdma",
	.tx = link_rdma_tx,
	.poll = rdma_poll,
	.done = link_rdma_done,
	.rx = link_rdma_rx,
	.answer = link_rdma_answer,
	.seal = link_rdma_seal,
	.close = link_rdma_close,
};
