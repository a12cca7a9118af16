// SPDX-License-Identifier: BSD-3-Clause
// The target's end of the rdma link: frames in, answers out. Run by the flow's polling core; see
// link_rdma.c for what holds.

#include "link_rdma_impl.h"

#include <string.h>

// Where the bytes of what came lie; NULL: it came where it must not.
static uint8_t *place_of(struct link_rdma *r, const struct rdma_in *in)
{
	if (in->slot == RDMA_NO_SLOT)
		return in->bytes <= RDMA_MESSAGE_BYTES
			       ? r->recv + (size_t)in->buffer * RDMA_MESSAGE_BYTES
			       : NULL;
	if (in->slot != r->slots_in % RDMA_SLOTS || in->bytes > RDMA_PIECE_BYTES)
		return NULL;
	r->slots_in++;
	return r->slot + (size_t)in->slot * RDMA_SLOT_BYTES;
}

// Its pages were written to their place before: only its header came.
static bool placed(const struct link_rdma *r, const struct rdma_in *in, const struct frame *f)
{
	return r->direct && in->slot == RDMA_NO_SLOT && f->payload_bytes > 0;
}

// Bytes that the completion of such a frame tells: of a slot its last piece.
static uint32_t told(const struct link_rdma *r, const struct rdma_in *in, const struct frame *f)
{
	uint32_t bytes = FRAME_HDR_BYTES + r->tag_bytes;

	if (!placed(r, in, f))
		bytes += f->payload_bytes;
	return in->slot == RDMA_NO_SLOT ? bytes : (bytes - 1) % RDMA_PIECE_BYTES + 1;
}

// A sealed frame is opened in memory that the fabric can't write to: what was checked is what is
// used. Its header first, which says how long it is.
static uint8_t *out_of_reach(struct link_rdma *r, const uint8_t *p)
{
	return memcpy(r->own, p, FRAME_HDR_BYTES);
}

// 0, or what is wrong as -enum frame_bad; 1: its seal. *where: the frame, header first.
static int read_frame(
	struct link_rdma *r, const struct rdma_in *in, struct frame *f, uint8_t **where)
{
	uint8_t *came = place_of(r, in), *p;
	uint32_t payload;
	int rc;

	if (came == NULL || (in->slot == RDMA_NO_SLOT && in->bytes < FRAME_HDR_BYTES))
		return -FRAME_BAD_LENGTH;
	p = *where = r->seal_in != NULL ? out_of_reach(r, came) : came;
	// What was in the slot before has another seq.
	rc = frame_decode(f, p);
	if (rc < 0)
		return rc;
	if (in->bytes != told(r, in, f))
		return -FRAME_BAD_LENGTH;
	payload = placed(r, in, f) ? 0 : f->payload_bytes;
	if (p != came)
		memcpy(p + FRAME_HDR_BYTES, came + FRAME_HDR_BYTES, payload + r->tag_bytes);
	// What it says of itself is believed once its seal is open.
	if (!link_rdma_unseal(r, p, payload))
		return 1;
	if (f->seq != r->link.next_seq)
		return -FRAME_BAD_ORDER;
	if (placed(r, in, f) && !r->link.sink->came(r->link.sink->arg, f))
		return -FRAME_BAD_ORDER;
	return 0;
}

unsigned link_rdma_rx(struct link *l, struct link_rx *f, unsigned n)
{
	struct link_rdma *r = rdma_of(l);
	unsigned i = 0;

	// There is room for one sealed frame.
	n = r->seal_in != NULL && n > 1 ? 1 : n;
	for (; i < n && !r->source && l->error == 0 && r->in_head != r->in_tail; i++) {
		const struct rdma_in *in = &r->in[r->in_head % RDMA_IN];
		uint8_t *p;
		int rc = read_frame(r, in, &f[i].hdr, &p);

		if (rc > 0)
			link_rdma_seal_wrong(r);
		if (rc < 0)
			link_rdma_wrong(r, l->next_seq, rc);
		if (rc != 0)
			break;
		f[i].placed = placed(r, in, &f[i].hdr);
		f[i].payload = f[i].placed ? NULL : p + FRAME_HDR_BYTES;
		l->next_seq++;
		l->rx_bytes += FRAME_HDR_BYTES + f[i].hdr.payload_bytes + r->tag_bytes;
		// A message has no payload: its header was read. Slots are freed by answers.
		rdma_recv_again(r, in->buffer);
		r->in_head++;
	}
	return i;
}

static bool put_answer(struct link_rdma *r, struct frame *f)
{
	struct ibv_send_wr *wr;
	uint8_t *message;

	if (!rdma_queue_room(&r->queue, 1))
		return false;
	wr = rdma_queue_next(&r->queue, &message);
	rdma_queue_message(&r->queue, wr, FRAME_HDR_BYTES + r->tag_bytes);
	if (!link_rdma_put(r, f, NULL, 0, message))
		link_rdma_seal_failed(r);
	r->link.tx_bytes += FRAME_HDR_BYTES + r->tag_bytes;
	return true;
}

// As on tcp: the source reads answers in the order of the frames.
static bool put_ack(struct link_rdma *r)
{
	struct frame f = {.type = FRAME_ACK, .seq = r->ack, .busy = link_busy(&r->link)};

	if (r->ack == r->ack_out)
		return true;
	if (!put_answer(r, &f))
		return false;
	r->ack_out = r->ack;
	return true;
}

bool link_rdma_answer(struct link *l, const struct frame *f)
{
	struct link_rdma *r = rdma_of(l);
	struct frame copy = *f;

	if (r->source || l->error != 0)
		return true; // nobody will read it
	if (f->type == FRAME_BARRIER_ACK && !put_ack(r))
		return false;
	if (f->type != FRAME_ACK && !put_answer(r, &copy))
		return false;
	r->ack = f->seq + 1;
	if (f->type == FRAME_BARRIER_ACK)
		r->ack_out = r->ack;
	return true;
}

void link_rdma_ack_due(struct link_rdma *r, bool idle)
{
	if (idle || r->ack - r->ack_out >= RDMA_ACK_FRAMES)
		(void)put_ack(r);
}
