// SPDX-License-Identifier: BSD-3-Clause
// The source's end of the rdma link: frames out, answers in. Run by the flow's polling core; see
// link_rdma.c for what holds.

#include "link_rdma_impl.h"

#include "bits.h"
#include "codec.h"

#include <arpa/inet.h>

// Header, payload and tag.
static uint32_t bytes_of(const struct link_rdma *r, const struct frame *f)
{
	return FRAME_HDR_BYTES + f->payload_bytes + r->tag_bytes;
}

// How a frame goes.
struct way {
	bool direct;   // to its place, at `to` under rkey
	bool keyless;  // not so, for want of a key
	bool uncopied; // from its place, under lkey
	uint32_t rkey, lkey;
	uint64_t to;
};

// The key for a chunk's place at the target, and where that is. False: it has none.
static bool key_of(const struct link_rdma *r, const struct frame *f, struct way *w)
{
	const struct link_rdma_key *k;
	uint32_t chunk = f->chunk;

	if (r->keys == NULL || f->type != FRAME_CHUNK || f->codec != CODEC_RAW ||
		f->payload_bytes == 0)
		return false;
	if (r->pool != NULL) {
		bool there = link_rdma_pool_key(r->pool, f->region, f->chunk, &w->to, &w->rkey);

		w->keyless = !there;
		return there;
	}
	k = &r->keys[f->region];
	if (r->windows != NULL && r->windows[f->region].chunks != 0) {
		const struct link_rdma_windows *in = &r->windows[f->region];

		k = &in->key[chunk / in->chunks];
		chunk %= in->chunks;
	}
	w->to = k->addr + ((uint64_t)chunk << CHUNK_SHIFT);
	w->rkey = k->rkey;
	return k->there;
}

// Pages that the device can read where they lie, under *lkey.
static bool is_lent(const struct link_rdma *r, const struct link_tx *f, uint32_t *lkey)
{
	const struct iovec *last;

	if (r->from == NULL || f->hdr.type != FRAME_CHUNK || f->hdr.codec != CODEC_RAW ||
		f->hdr.payload_bytes == 0)
		return false;
	last = &f->seg[f->nseg - 1];
	return rdma_memory_read(r->from, f->hdr.region, f->hdr.chunk, f->seg[0].iov_base,
		(const uint8_t *)last->iov_base + last->iov_len, lkey);
}

static struct way way_of(const struct link_rdma *r, const struct link_tx *f)
{
	struct way w = {0};

	w.direct = key_of(r, &f->hdr, &w);
	w.uncopied = (w.direct || r->gathers) && is_lent(r, f, &w.lkey);
	return w;
}

// A slot is both one of ours and one of the target's: the latter is what a frame that is not direct
// needs, the former what one that is copied does.
static bool room(const struct link_rdma *r, const struct link_tx *f, const struct way *w)
{
	unsigned sends = 2 + bytes_of(r, &f->hdr) / RDMA_PIECE_BYTES + f->nseg;

	if (r->link.next_seq - r->reported == RDMA_FRAMES || !rdma_queue_room(&r->queue, sends))
		return false;
	return f->hdr.payload_bytes == 0 || (w->direct && w->uncopied) ||
	       r->slots_used - r->slots_free < RDMA_SLOTS;
}

static struct ibv_send_wr *next_write(struct link_rdma *r, uint64_t to, uint32_t rkey)
{
	uint8_t *unused;
	struct ibv_send_wr *wr = rdma_queue_next(&r->queue, &unused);

	wr->opcode = IBV_WR_RDMA_WRITE;
	wr->wr.rdma.remote_addr = to;
	wr->wr.rdma.rkey = rkey;
	return wr;
}

// Writes what lies together here and there, in pieces of most bytes. Returns the last one.
static struct ibv_send_wr *queue_writes(
	struct link_rdma *r, struct ibv_sge from, uint64_t to, uint32_t rkey, uint32_t most)
{
	struct ibv_send_wr *wr = NULL;
	uint32_t len;

	r->queue.waiting_bytes += from.length;
	for (; from.length > 0; from.length -= len, from.addr += len, to += len) {
		len = from.length < most ? from.length : most;
		wr = next_write(r, to, rkey);
		*wr->sg_list = (struct ibv_sge){from.addr, len, from.lkey};
	}
	return wr;
}

// The same of a header in a slot of ours and pages where they lie, for a slot of the target.
static struct ibv_send_wr *queue_gather(struct link_rdma *r, const uint8_t *hdr,
	const struct link_tx *f, uint64_t to, uint32_t lkey)
{
	struct ibv_sge from = {(uintptr_t)hdr, FRAME_HDR_BYTES, r->mr->lkey};
	struct ibv_send_wr *wr = NULL;
	uint32_t left = 0; // of the piece

	for (unsigned i = 0; i <= f->nseg; i++) {
		if (i > 0)
			from = (struct ibv_sge){(uintptr_t)f->seg[i - 1].iov_base,
				(uint32_t)f->seg[i - 1].iov_len, lkey};
		r->queue.waiting_bytes += from.length;
		while (from.length > 0) {
			uint32_t len;

			if (left == 0) {
				wr = next_write(r, to, r->remote_key);
				wr->num_sge = 0;
				to += left = RDMA_PIECE_BYTES;
			}
			len = from.length < left ? from.length : left;
			wr->sg_list[wr->num_sge++] = (struct ibv_sge){from.addr, len, from.lkey};
			from.addr += len;
			from.length -= len;
			left -= len;
		}
	}
	return wr;
}

static uint8_t *next_slot(struct link_rdma *r)
{
	return r->slot + (size_t)(r->slots_used++ % RDMA_SLOTS) * RDMA_SLOT_BYTES;
}

// The header, and the payload behind it, go to the next slot of the target.
static bool queue_slot(struct link_rdma *r, struct link_tx *f, const struct way *w)
{
	uint32_t slot = r->slots_out++ % RDMA_SLOTS;
	uint64_t to = r->remote_addr + (uint64_t)slot * RDMA_SLOT_BYTES;
	uint8_t *own = next_slot(r);
	struct ibv_send_wr *last;

	if (!link_rdma_put(r, &f->hdr, f->seg, w->uncopied ? 0 : f->nseg, own))
		return false;
	if (w->uncopied)
		last = queue_gather(r, own, f, to, w->lkey);
	else
		last = queue_writes(r,
			(struct ibv_sge){(uintptr_t)own, bytes_of(r, &f->hdr), r->mr->lkey}, to,
			r->remote_key, RDMA_PIECE_BYTES);
	last->opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
	last->imm_data = htonl(slot);
	return true;
}

static bool queue_message(struct link_rdma *r, struct frame *f)
{
	uint8_t *message;
	struct ibv_send_wr *wr = rdma_queue_next(&r->queue, &message);

	rdma_queue_message(&r->queue, wr, FRAME_HDR_BYTES + r->tag_bytes);
	return link_rdma_put(r, f, NULL, 0, message);
}

// Pages go to their place in the target's guest memory, neighbours together, and the header after
// them. Those that the device must not read where they lie are copied first.
static bool queue_pages(struct link_rdma *r, struct link_tx *f, const struct way *w)
{
	uint64_t mask = f->hdr.data;
	unsigned page = (unsigned)__builtin_ctzll(mask); // that lies at from.addr
	struct ibv_sge from = {(uintptr_t)f->seg[0].iov_base, 0, w->lkey};

	if (!w->uncopied) {
		uint8_t *own = next_slot(r);

		if (!link_rdma_put(r, &f->hdr, f->seg, f->nseg, own))
			return false;
		from = (struct ibv_sge){(uintptr_t)own + FRAME_HDR_BYTES, 0, r->mr->lkey};
	}
	while (mask != 0) {
		unsigned first, n = bits_run(mask, &first);

		if (w->uncopied)
			from.addr += (first - page) * PAGE_BYTES;
		page = first + n;
		from.length = n * (uint32_t)PAGE_BYTES;
		queue_writes(r, from, w->to + first * PAGE_BYTES, w->rkey, r->write_bytes);
		from.addr += from.length;
		mask &= ~bits_mask(first, n);
	}
	return queue_message(r, &f->hdr);
}

static bool queue_frame(struct link_rdma *r, struct link_tx *f, const struct way *w)
{
	f->uncopied = w->uncopied;
	f->direct = w->direct;
	f->keyless = w->keyless;
	if (w->direct)
		return queue_pages(r, f, w);
	return f->hdr.payload_bytes > 0 ? queue_slot(r, f, w) : queue_message(r, &f->hdr);
}

static bool tx_one(struct link_rdma *r, struct link_tx *f)
{
	struct way w = way_of(r, f);
	uint64_t seq = r->link.next_seq;
	unsigned i = seq % RDMA_FRAMES;

	if (!room(r, f, &w))
		return false;
	f->hdr.seq = seq;
	if (!queue_frame(r, f, &w)) {
		link_rdma_seal_failed(r);
		return false;
	}
	r->inflight[i] = f->hdr;
	r->send_end[i] = r->queue.tail;
	r->slot_end[i] = r->slots_used;
	r->torn[i] = false;
	if (f->hdr.type == FRAME_BARRIER)
		r->barrier = seq;
	r->link.next_seq++;
	r->link.sent = r->link.next_seq; // the payload was copied, or is guest memory
	r->link.tx_bytes += bytes_of(r, &f->hdr);
	return true;
}

unsigned link_rdma_tx(struct link *l, struct link_tx *f, unsigned n)
{
	struct link_rdma *r = rdma_of(l);
	unsigned i = 0;

	if (!r->source)
		return 0;
	while (i < n && l->error == 0 && r->flushed_cycles == 0 && tx_one(r, &f[i]))
		i++;
	if (r->queue.waiting_bytes >= RDMA_POST_BYTES)
		rdma_queue_post(r);
	return i;
}

static int take_answer(struct link_rdma *r, const struct frame *f)
{
	uint64_t next = r->link.next_seq;
	uint64_t most = r->barrier < next ? r->barrier : next;

	switch (f->type) {
	case FRAME_ACK: // of all below; never of a barrier
		if (f->seq < r->answered || f->seq > most)
			return -FRAME_BAD_ORDER;
		r->answered = f->seq;
		r->link.peer_busy = f->busy;
		return 0;
	case FRAME_TORN:
		if (f->seq < r->answered || f->seq >= most)
			return -FRAME_BAD_ORDER;
		r->torn[f->seq % RDMA_FRAMES] = true;
		return 0;
	case FRAME_BARRIER_ACK:
		if (f->seq != r->barrier || f->seq >= next)
			return -FRAME_BAD_ORDER;
		r->barrier_ack = *f;
		r->answered = f->seq + 1;
		r->barrier = RDMA_NO_SEQ;
		return 0;
	default:
		return -FRAME_BAD_TYPE;
	}
}

static int64_t read_answers(struct link_rdma *r)
{
	int64_t n = 0;

	for (; r->in_head != r->in_tail; r->in_head++, n++) {
		const struct rdma_in *in = &r->in[r->in_head % RDMA_IN];
		uint8_t *p = r->recv + (size_t)in->buffer * RDMA_MESSAGE_BYTES;
		struct frame f;
		int rc = -FRAME_BAD_LENGTH;

		if (in->slot == RDMA_NO_SLOT && in->bytes == FRAME_HDR_BYTES + r->tag_bytes) {
			if (!link_rdma_unseal(r, p, 0))
				return link_rdma_seal_wrong(r);
			rc = frame_decode(&f, p);
		}
		if (rc == 0)
			rc = take_answer(r, &f);
		if (rc < 0)
			return link_rdma_wrong(r, r->answered, rc);
		r->link.rx_bytes += in->bytes;
		rdma_recv_again(r, in->buffer);
	}
	return n;
}

// Frames that have left the queue pair, and slots that both ends are done with.
static void advance(struct link_rdma *r)
{
	uint64_t done;

	while (r->completed < r->link.next_seq &&
		r->send_end[r->completed % RDMA_FRAMES] <= r->queue.freed)
		r->completed++;
	done = r->completed < r->answered ? r->completed : r->answered;
	if (done > 0 && done > r->reported)
		r->slots_free = r->slot_end[(done - 1) % RDMA_FRAMES];
}

// A frame is reported when the target has answered it and its sends have completed: after a
// barrier, nothing of its pass is on the way any more.
unsigned link_rdma_done(struct link *l, struct link_done *d, unsigned n)
{
	struct link_rdma *r = rdma_of(l);
	unsigned i = 0;

	while (i < n && r->reported < r->answered && r->reported < r->completed) {
		unsigned at = r->reported++ % RDMA_FRAMES;
		const struct frame *f = &r->inflight[at];

		d[i].hdr = *f;
		d[i].status = r->torn[at] ? LINK_TORN : LINK_PLACED;
		if (f->type == FRAME_BARRIER) {
			d[i].hdr = r->barrier_ack;
			d[i].status = LINK_BARRIER;
		}
		i++;
	}
	return i;
}

int64_t link_rdma_poll_source(struct link_rdma *r)
{
	int64_t got = read_answers(r), posted;

	advance(r);
	if (r->pool != NULL)
		link_rdma_pool_pass(r->pool, r->lane, &r->pool_seen, r->queue.tail, r->queue.freed);
	if (got < 0)
		return got;
	posted = rdma_recv_post(r);
	if (posted >= 0)
		posted = rdma_queue_post(r);
	return posted < 0 ? posted : got + posted;
}
