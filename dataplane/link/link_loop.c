// SPDX-License-Identifier: BSD-3-Clause
// The loop link, for tests: loses, delays, reorders, repeats and corrupts frames as a seeded
// generator says. Run by one thread that polls both ends.
//
// The wire moves when the target polls. A payload is read from its segments when it is delivered,
// so writes between tear it, as they do where a card reads the memory. Invariants: a frame is
// delivered first exactly once, or lost; a barrier is delivered once, after all that can still come
// of its pass but stale copies; a frame is reported once: as answered, or as lost when the barrier
// is answered. So at most LINK_INFLIGHT frames fit between a lost one and its pass's end.

#include "link_loop.h"

#include <string.h>

// A second delivery happens in one of so many polls.
#define COPY_POLLS 4u

// splitmix64
static uint64_t roll(struct loop *o)
{
	uint64_t x = o->random += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static bool happens(struct loop *o, uint32_t parts)
{
	return parts > 0 && (roll(o) & 0xffff) < parts;
}

static struct loop_slot *slot_of(struct loop *o, uint64_t seq)
{
	return &o->slot[seq % LINK_INFLIGHT];
}

// Source.

static unsigned loop_tx(struct link *l, struct link_tx *f, unsigned n)
{
	struct loop *o = loop_of(l);
	unsigned i = 0;

	for (; i < n && l->error == 0 && l->next_seq - o->oldest < LINK_INFLIGHT; i++) {
		struct loop_slot *s = slot_of(o, l->next_seq);

		f[i].hdr.seq = l->next_seq++;
		frame_encode(&f[i].hdr, s->wire);
		s->hdr = f[i].hdr;
		s->nseg = f[i].nseg;
		memcpy(s->seg, f[i].seg, f[i].nseg * sizeof(s->seg[0]));
		s->gone = s->answered = false;
		l->tx_bytes += FRAME_HDR_BYTES + f[i].hdr.payload_bytes;
	}
	return i;
}

static void report(struct loop *o, uint64_t seq, enum link_status status, const struct frame *f)
{
	struct link_done *d = &o->done[o->done_tail++ % LOOP_ANSWERS];

	d->status = status;
	d->hdr = *f;
	slot_of(o, seq)->answered = true;
}

static void take_answer(struct loop *o, const struct frame *f)
{
	struct loop_slot *s = slot_of(o, f->seq);

	// An answer to a copy of what was answered or given up before says nothing new.
	if (f->seq < o->oldest || f->seq >= o->source.link.next_seq || s->answered)
		return;
	if (f->type == FRAME_BARRIER_ACK) {
		for (uint64_t q = o->oldest; q < f->seq; q++)
			if (!slot_of(o, q)->answered)
				report(o, q, LINK_LOST, &slot_of(o, q)->hdr);
		report(o, f->seq, LINK_BARRIER, f);
	} else {
		report(o, f->seq, f->type == FRAME_TORN ? LINK_TORN : LINK_PLACED, &s->hdr);
	}
	while (o->oldest < o->source.link.next_seq && slot_of(o, o->oldest)->answered)
		o->oldest++;
}

static int64_t poll_source(struct loop *o)
{
	int64_t n = 0;

	while (o->answer_head < o->answer_tail &&
		o->done_tail - o->done_head + LINK_INFLIGHT < LOOP_ANSWERS) {
		take_answer(o, &o->answer[o->answer_head++ % LOOP_ANSWERS]);
		o->source.link.rx_bytes += FRAME_HDR_BYTES;
		n++;
	}
	return n;
}

static unsigned loop_done(struct link *l, struct link_done *d, unsigned n)
{
	struct loop *o = loop_of(l);
	unsigned i = 0;

	while (i < n && o->done_head < o->done_tail)
		d[i++] = o->done[o->done_head++ % LOOP_ANSWERS];
	return i;
}

// The wire.

static void corrupt(struct loop *o, uint8_t *wire, uint8_t *payload, uint32_t bytes)
{
	uint64_t bit = roll(o) % ((FRAME_HDR_BYTES + (uint64_t)bytes) * 8);

	// Headers are hit often, not only by their share of the bytes.
	if (bytes == 0 || roll(o) % 4 == 0)
		wire[bit / 8 % FRAME_HDR_BYTES] ^= (uint8_t)(1u << bit % 8);
	else
		payload[bit / 8 % bytes] ^= (uint8_t)(1u << bit % 8);
}

// Hands a frame to the target. A header that does not decode is dropped, as a card would.
static void deliver(struct loop *o, const uint8_t *wire, uint32_t bytes)
{
	struct link_rx *x = &o->rx[o->rx_n];

	o->target.link.rx_bytes += FRAME_HDR_BYTES + bytes;
	if (frame_decode(&x->hdr, wire) < 0)
		return;
	x->payload = o->payload[o->rx_n++];
}

static void keep_copy(struct loop *o, const struct loop_slot *s, const uint8_t *payload, bool stale)
{
	for (unsigned i = 0; i < LOOP_COPIES; i++) {
		struct loop_copy *c = &o->copy[i];

		if (c->used)
			continue;
		c->used = true;
		c->stale = stale;
		c->pass = s->hdr.pass;
		c->payload_bytes = s->hdr.payload_bytes;
		memcpy(c->wire, s->wire, sizeof(c->wire));
		memcpy(c->payload, payload, c->payload_bytes);
		return;
	}
}

static void send_first(struct loop *o, struct loop_slot *s)
{
	uint8_t *payload = o->payload[o->rx_n], *at = payload;
	uint8_t wire[FRAME_HDR_BYTES];

	s->gone = true;
	if (s->hdr.type != FRAME_BARRIER && happens(o, o->faults.lose))
		return;
	memcpy(wire, s->wire, sizeof(wire));
	for (unsigned i = 0; i < s->nseg; i++) {
		memcpy(at, s->seg[i].iov_base, s->seg[i].iov_len);
		at += s->seg[i].iov_len;
	}
	if (s->hdr.type == FRAME_BARRIER) {
		o->passes = s->hdr.pass + 1;
	} else {
		if (happens(o, o->faults.duplicate))
			keep_copy(o, s, payload, false);
		if (happens(o, o->faults.stale))
			keep_copy(o, s, payload, true);
		if (happens(o, o->faults.corrupt))
			corrupt(o, wire, payload, s->hdr.payload_bytes);
	}
	deliver(o, wire, s->hdr.payload_bytes);
}

static bool copies_wait(const struct loop *o)
{
	for (unsigned i = 0; i < LOOP_COPIES; i++)
		if (o->copy[i].used && !o->copy[i].stale)
			return true;
	return false;
}

// The frame that comes next: the oldest, or one that overtakes it. NULL: none may come now.
static struct loop_slot *next_first(struct loop *o)
{
	struct link *l = &o->source.link;
	uint64_t seq = l->sent;

	if (seq == l->next_seq || happens(o, o->faults.delay))
		return NULL;
	if (happens(o, o->faults.reorder))
		for (uint64_t q = seq + roll(o) % LOOP_REORDER; q > seq; q--)
			if (q < l->next_seq && !slot_of(o, q)->gone &&
				slot_of(o, q)->hdr.type != FRAME_BARRIER)
				return slot_of(o, q);
	if (slot_of(o, seq)->hdr.type == FRAME_BARRIER && copies_wait(o))
		return NULL;
	return slot_of(o, seq);
}

static void send_copies(struct loop *o)
{
	for (unsigned i = 0; i < LOOP_COPIES && o->rx_n < LOOP_BURST; i++) {
		struct loop_copy *c = &o->copy[i];

		if (!c->used || (c->stale && o->passes <= c->pass) || roll(o) % COPY_POLLS != 0)
			continue;
		memcpy(o->payload[o->rx_n], c->payload, c->payload_bytes);
		deliver(o, c->wire, c->payload_bytes);
		c->used = false;
	}
}

static int64_t poll_target(struct loop *o)
{
	struct link *l = &o->source.link;

	o->rx_at = o->rx_n = 0;
	send_copies(o);
	while (o->rx_n < LOOP_BURST) {
		struct loop_slot *s = next_first(o);

		if (s == NULL)
			break;
		send_first(o, s);
		while (l->sent < l->next_seq && slot_of(o, l->sent)->gone)
			l->sent++;
	}
	return o->rx_n;
}

// Target.

static unsigned loop_rx(struct link *l, struct link_rx *f, unsigned n)
{
	struct loop *o = loop_of(l);
	unsigned i = 0;

	while (i < n && l->error == 0 && o->rx_at < o->rx_n)
		f[i++] = o->rx[o->rx_at++];
	return i;
}

static bool loop_answer(struct link *l, const struct frame *f)
{
	struct loop *o = loop_of(l);

	if (f->type != FRAME_BARRIER_ACK && happens(o, o->faults.lose_answer))
		return true;
	if (o->answer_tail - o->answer_head == LOOP_ANSWERS)
		return false;
	o->answer[o->answer_tail++ % LOOP_ANSWERS] = *f;
	l->tx_bytes += FRAME_HDR_BYTES;
	return true;
}

// Both.

static int64_t loop_poll(struct link *l)
{
	struct loop *o = loop_of(l);

	if (l->error != 0)
		return -l->error;
	return l == &o->source.link ? poll_source(o) : poll_target(o);
}

const struct link_ops link_loop = {
	.name = "loop",
	.tx = loop_tx,
	.poll = loop_poll,
	.done = loop_done,
	.rx = loop_rx,
	.answer = loop_answer,
	.close = link_loop_close,
};
