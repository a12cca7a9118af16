// SPDX-License-Identifier: BSD-3-Clause
// What the source makes of an ACK: packets, round trips, credits, answers. Run by the source's
// polling core; pure.
//
// Invariants: an ACK that speaks of what was never sent is dropped whole. Credits never shrink. A
// packet's fate is counted once. Marks are read in the target's order, each once.

#include "rel_send.h"

#include "bits.h"

#define AWAY_ROUND_NS ((uint64_t)UINT16_MAX * PACKET_AWAY_NS)

static bool is_possible(const struct rel_send *s, const struct packet_ack *a)
{
	if (a->answered > s->next || a->frame_limit < a->answered ||
		a->frame_limit - a->answered > s->c.cfg.frames)
		return false;
	if (a->nframes > s->c.cfg.frames / 64 + 1)
		return false;
	return a->nwords == 0 || (a->largest < s->c.number && a->largest >= s->c.cfg.first_number);
}

// One packet is acknowledged for the first time. True when it was thought to be in flight.
static bool acked(struct rel_send *s, uint64_t number, uint64_t now_ns)
{
	struct rel_send_packet *k = rel_send_packet_slot(s, number);
	bool flying = k->state == REL_PACKET_FLYING;

	if (k->state == REL_PACKET_LOST) {
		k->state = REL_PACKET_GONE;
		rel_send_spurious(s, number);
		return false;
	}
	if (!flying)
		return false;
	rel_send_gone(s, number);
	if (path_acked(&s->path, number, k->bytes, now_ns))
		s->cc.mss_bytes = s->path.mtu;
	return true;
}

static void on_largest(struct rel_send *s, const struct packet_ack *a, uint64_t now_ns)
{
	const struct rel_send_packet *k = rel_send_packet_slot(s, a->largest);
	uint64_t rtt = now_ns - k->sent_ns;
	uint64_t away = (uint64_t)(uint16_t)(rel_away_sum(&s->c) - k->away) +
			(uint16_t)(a->away - k->peer_away);

	// Both counts go round: of so long a time they say nothing, and nobody knows whose it was.
	if (rtt >= AWAY_ROUND_NS)
		away = rtt / PACKET_AWAY_NS + 1;
	if (a->delay_ns < rtt)
		rtt -= a->delay_ns;
	congestion_sample(&s->cc, now_ns, rel_max(rtt, 1), away * PACKET_AWAY_NS);
}

static void on_packets(struct rel_send *s, const struct packet_ack *a, uint64_t now_ns)
{
	uint64_t nwords = s->c.cfg.packets / 64, newest = a->largest / 64;
	bool newer = !s->any_acked || a->largest > s->largest;
	uint32_t n = 0;

	for (unsigned i = 0; i < a->nwords; i++) {
		uint64_t first = (newest - i) * 64;
		uint64_t *seen = &s->seen[(newest - i) % nwords];
		uint64_t fresh = a->word[i] & ~*seen;

		if (first + s->c.cfg.packets < s->c.number + 64)
			break; // so old that the ring holds others in their place
		if (i == 0)
			fresh &= bits_low((unsigned)(a->largest % 64) + 1);
		*seen |= fresh;
		for (; fresh != 0; fresh &= fresh - 1) {
			uint64_t number = first + (unsigned)__builtin_ctzll(fresh);
			bool flying = acked(s, number, now_ns);

			n += flying;
			if (flying && newer && number == a->largest)
				on_largest(s, a, now_ns);
		}
	}
	if (a->nwords > 0 && newer) {
		s->any_acked = true;
		s->largest = a->largest;
	}
	if (n > 0) {
		s->ptos = 0;
		s->pto_from_ns = now_ns;
		if (s->barrier_from_ns != REL_NEVER)
			rel_send_news(s, now_ns);
		congestion_acked(&s->cc, n, 0);
	}
}

static void on_newest(struct rel_send *s, const struct packet *p, const struct packet_ack *a)
{
	congestion_acked(&s->cc, 0, a->ce - s->ce);
	s->ack_number = p->number;
	s->ce = a->ce;
	s->peer_away = a->away;
	s->peer_busy = (uint8_t)(p->flags & PACKET_BUSY);
}

// Frames that were refused come first: what follows says only that they were answered.
static void on_answers(struct rel_send *s, const struct packet_ack *a)
{
	uint32_t nring = s->c.cfg.frames / 64;

	for (unsigned i = 0; i < a->nmarks; i++) {
		uint64_t seq = a->mark[i] & ~PACKET_MARK_LOST;
		uint16_t next = (uint16_t)(a->first_mark + i + 1);

		if ((uint16_t)(next - s->marks_known) - 1u > INT16_MAX)
			continue; // read before
		s->marks_known = next;
		if (i >= PACKET_ACK_MARKS / 2)
			s->ping = true; // the target waits for room
		if (seq != s->barrier)
			rel_send_settle(s, seq,
				a->mark[i] & PACKET_MARK_LOST ? REL_FRAME_LOST : REL_FRAME_TORN);
	}
	for (uint64_t seq = s->settled; seq < a->answered; seq++)
		if (seq != s->barrier)
			rel_send_settle(s, seq, REL_FRAME_PLACED);
	for (unsigned i = 0; i < a->nframes; i++) {
		uint64_t word = a->answered / 64 + i;
		uint64_t fresh = a->frame[i] & ~s->done[word % nring];

		for (; fresh != 0; fresh &= fresh - 1) {
			uint64_t seq = word * 64 + (unsigned)__builtin_ctzll(fresh);

			if (seq != s->barrier && seq >= a->answered)
				rel_send_settle(s, seq, REL_FRAME_PLACED);
		}
	}
}

static void on_barrier(struct rel_send *s, const struct packet_ack *a)
{
	struct frame f;

	if (!a->has_barrier || s->barrier == REL_NEVER || frame_decode(&f, a->barrier) < 0 ||
		f.type != FRAME_BARRIER_ACK || f.seq != s->barrier || a->answered <= f.seq)
		return;
	s->barrier_answer = f;
	rel_send_settle(s, f.seq, REL_FRAME_PLACED);
}

static void on_ack(
	struct rel_send *s, uint64_t now_ns, const struct packet *p, const struct packet_ack *a)
{
	bool newest = p->number >= s->ack_number;

	s->frame_limit = rel_max(s->frame_limit, a->frame_limit);
	s->pos_limit = rel_max(s->pos_limit, a->pos_limit);
	on_packets(s, a, now_ns);
	if (newest)
		on_newest(s, p, a);
	rel_send_detect(s, now_ns);
	if (s->any_acked && s->largest >= s->round_end) {
		s->round_end = s->c.number;
		congestion_round(&s->cc);
		rel_send_round(s);
	}
	// One that was overtaken says no more of frames than that which overtook it; and the
	// numbers of its marks, which go round, might pass for new ones.
	if (newest) {
		on_answers(s, a);
		on_barrier(s, a);
	}
	rel_send_advance(s);
	rel_send_rate(s);
}

void rel_send_packet_in(struct rel_send *s, uint64_t now_ns, const uint8_t *buf, size_t len)
{
	struct packet_ack a;
	struct packet p;

	if (rel_open(&s->c, &p, buf, len) < 0) {
		s->c.stats.bad++;
		return;
	}
	if (p.type == PACKET_BYE) {
		s->c.stats.packets_in++;
		s->c.heard_ns = now_ns;
		rel_on_bye(&s->c, &p, buf, now_ns);
		return;
	}
	if (p.type != PACKET_ACK || packet_get_ack(&a, &p, buf) < 0 || !is_possible(s, &a)) {
		s->c.stats.bad++;
		return;
	}
	s->c.stats.packets_in++;
	s->c.heard_ns = now_ns;
	if (s->c.state == REL_OPEN && s->c.error == 0)
		on_ack(s, now_ns, &p, &a);
}
