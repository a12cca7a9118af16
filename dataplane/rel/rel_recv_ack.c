// SPDX-License-Identifier: BSD-3-Clause
// What the target tells the source: which packets came, what it may send, which frames are
// answered. Run by the target's polling core; pure.
//
// Invariant: an ACK is the whole state, so any of them can be lost, repeated or overtaken.

#include "rel_recv.h"

#include "bits.h"

#include <string.h>

#define NUMBER_MASK (REL_RECV_NUMBERS - 1)

void rel_recv_ack_soon(struct rel_recv *r, uint64_t now_ns)
{
	r->ack_at_ns = rel_min(r->ack_at_ns, now_ns + r->c.cfg.ack_delay_ns);
}

bool rel_recv_seen(const struct rel_recv *r, uint64_t number)
{
	if (!r->any || number > r->largest)
		return false;
	return r->largest - number >= REL_RECV_NUMBERS ||
	       bits_test(r->number, number & NUMBER_MASK);
}

static void forget(struct rel_recv *r, uint64_t first, uint64_t n)
{
	uint64_t at = first & NUMBER_MASK;
	uint64_t till_end = REL_RECV_NUMBERS - at;

	bits_clear_range(r->number, at, rel_min(n, till_end));
	if (n > till_end)
		bits_clear_range(r->number, 0, n - till_end);
}

void rel_recv_count(struct rel_recv *r, uint64_t now_ns, const struct packet *p, bool ce)
{
	if (!r->any || p->number > r->largest) {
		uint64_t n = r->any ? p->number - r->largest : REL_RECV_NUMBERS;

		if (n >= REL_RECV_NUMBERS)
			memset(r->number, 0, sizeof(r->number));
		else if (n > 1)
			forget(r, r->largest + 1, n);
		else
			bits_clear(r->number, p->number & NUMBER_MASK);
		r->any = true;
		r->largest = p->number;
		r->largest_ns = now_ns;
	}
	bits_set(r->number, p->number & NUMBER_MASK);
	r->ce += ce;
	r->unacked++;
	if (p->type == PACKET_PING || (p->flags & PACKET_ACK_NOW) ||
		r->unacked >= r->c.cfg.ack_packets)
		r->ack_at_ns = now_ns;
	else
		rel_recv_ack_soon(r, now_ns);
}

// Packets, newest word first, without the empty words at the end.
static void put_numbers(const struct rel_recv *r, struct packet_ack *a)
{
	uint64_t newest = r->largest / 64;

	if (!r->any)
		return;
	for (unsigned i = 0; i < PACKET_ACK_WORDS && i <= newest; i++) {
		uint64_t w = r->number[(newest - i) % (REL_RECV_NUMBERS / 64)];

		if (i == 0) // bits above the largest are left from an earlier round of the ring
			w &= bits_low((unsigned)(r->largest % 64) + 1);
		a->word[i] = w;
		if (w != 0)
			a->nwords = (uint8_t)(i + 1);
	}
}

// Frames above `answered` that are. The ring's word that holds `answered` holds the window's end
// too: it is read twice, and half of it counts each time.
static void put_frames(const struct rel_recv *r, struct packet_ack *a)
{
	unsigned nring = r->c.cfg.frames / 64, part = r->answered % 64;
	uint64_t first = r->answered / 64;

	if (r->top <= r->answered)
		return;
	for (unsigned i = 0; i <= nring && (first + i) * 64 < r->top; i++) {
		uint64_t w = r->answer[(first + i) % nring];

		if (i == 0)
			w &= ~bits_low(part);
		else if (i == nring)
			w &= bits_low(part);
		a->frame[i] = w;
		a->nframes = (uint8_t)(i + 1);
	}
}

static void put_ack(const struct rel_recv *r, uint64_t now_ns, struct packet_ack *a)
{
	uint64_t delay = r->any ? now_ns - r->largest_ns : 0;

	a->largest = r->any ? r->largest : 0;
	a->delay_ns = (uint32_t)rel_min(delay, UINT32_MAX);
	a->away = rel_away_sum(&r->c);
	a->ce = r->ce;
	a->frame_limit = r->answered + r->c.cfg.frames;
	a->pos_limit = r->answered_pos + r->c.cfg.ring_bytes;
	a->answered = r->answered;
	a->nwords = a->nframes = 0;
	put_numbers(r, a);
	put_frames(r, a);
	a->nmarks = (uint8_t)r->nmarks;
	a->first_mark = r->first_mark;
	memcpy(a->mark, r->mark, sizeof(a->mark[0]) * r->nmarks);
	a->has_barrier = r->has_barrier;
	memcpy(a->barrier, r->barrier, sizeof(a->barrier));
}

bool rel_recv_next_packet(struct rel_recv *r, uint64_t now_ns, struct rel_out *o)
{
	struct packet_ack a;
	struct packet p;

	if (rel_next_bye(&r->c, now_ns, o))
		return true;
	if (r->c.state != REL_OPEN || r->c.error != 0 || now_ns < r->ack_at_ns)
		return false;
	r->ack_at_ns = REL_NEVER;
	r->unacked = 0;
	put_ack(r, now_ns, &a);
	p = rel_begin(&r->c, PACKET_ACK, now_ns);
	p.flags = r->busy;
	o->hdr_bytes = packet_put_ack(o->hdr, &p, &a);
	o->bytes = o->pad_bytes = 0;
	o->copy = false;
	return true;
}
