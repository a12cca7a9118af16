// SPDX-License-Identifier: BSD-3-Clause
// Which packets are lost, and what is done when nothing is heard. Run by the source's polling core;
// pure. After RACK-TLP (RFC 8985) and RFC 9002.
//
// Invariants: everything below floor is settled: acknowledged or lost. A packet in flight is
// counted in flying and flying_bytes, and in its frame. What is called lost and comes after all is
// counted as spurious and makes the judgement slower, up to a round trip.

#include "rel_send.h"

#include "bits.h"
#include "plant.h"

#define REORDER_MOST   2048u
#define REORDER_ROUNDS 64u // without a wrong judgement, before it is quick again
#define COLLAPSE_PTOS  3u
#define PTO_PROBES     2u

// A packet is no longer in flight.
void rel_send_gone(struct rel_send *s, uint64_t number)
{
	struct rel_send_packet *k = rel_send_packet_slot(s, number);
	struct rel_send_frame *f = rel_send_slot(s, k->seq);

	k->state = REL_PACKET_GONE;
	s->flying--;
	s->flying_bytes -= k->bytes;
	if (k->kind == REL_PACKET_PART && k->seq >= s->settled && f->hdr.seq == k->seq)
		f->flying--;
}

void rel_send_lose(struct rel_send *s, uint64_t number, uint64_t now_ns)
{
	struct rel_send_packet *k = rel_send_packet_slot(s, number);
	struct rel_send_frame *f = rel_send_slot(s, k->seq);
	uint64_t slot = k->seq & (s->c.cfg.frames - 1);

	rel_send_gone(s, number);
	k->state = REL_PACKET_LOST;
	s->c.stats.lost++;
	if (path_lost(&s->path, number, k->bytes, now_ns, s->cc.whole_ns)) {
		s->c.stats.holes++;
		s->cc.mss_bytes = s->path.mtu;
	}
	if (k->kind != REL_PACKET_PART)
		return;
	congestion_lost(&s->cc);
	if (k->seq < s->settled || f->hdr.seq != k->seq || f->state != REL_FRAME_OUT ||
		plant(PLANT_NIC_FORGET_LOST))
		return;
	bits_set_range(s->lost_line + slot * REL_LINE_WORDS, k->line, k->lines);
	if (f->lost == 0) {
		bits_set(s->lost_frame, slot);
		s->lost_frames++;
	}
	f->lost += k->lines;
}

void rel_send_spurious(struct rel_send *s, uint64_t number)
{
	uint64_t distance = s->largest > number ? s->largest - number + 1 : 1;

	s->c.stats.spurious++;
	congestion_found(&s->cc);
	if (s->reorder < distance)
		s->reorder = (uint32_t)rel_min(distance, REORDER_MOST);
	if (s->reorder_rounds > 0 && s->reorder_eighths < 8)
		s->reorder_eighths++;
	s->reorder_rounds = 0;
}

void rel_send_round(struct rel_send *s)
{
	if (++s->reorder_rounds < REORDER_ROUNDS)
		return;
	s->reorder_rounds = 0;
	s->reorder = REL_SEND_REORDER;
	s->reorder_eighths = 1;
}

// Looks at holes below the largest number acknowledged. Packets leave in the order of their
// numbers, so the first hole that is young enough ends the search.
void rel_send_detect(struct rel_send *s, uint64_t now_ns)
{
	uint64_t rtt = rel_max(s->cc.whole_ns, s->cc.latest_ns);
	uint64_t wait = rtt + rtt * s->reorder_eighths / 8;
	uint64_t number = s->floor;

	s->loss_ns = REL_NEVER;
	for (; s->any_acked && number < s->largest; number++) {
		const struct rel_send_packet *k = rel_send_packet_slot(s, number);

		if (k->state != REL_PACKET_FLYING)
			continue;
		if (s->largest - number < s->reorder && now_ns < k->sent_ns + wait) {
			s->loss_ns = k->sent_ns + wait;
			break;
		}
		rel_send_lose(s, number, now_ns);
	}
	while (s->floor < s->c.number &&
		rel_send_packet_slot(s, s->floor)->state != REL_PACKET_FLYING)
		s->floor++;
}

uint64_t rel_send_pto_at(const struct rel_send *s)
{
	const struct rel_config *g = &s->c.cfg;
	uint64_t pto =
		rel_max(s->cc.whole_ns + 4 * s->cc.var_ns, g->least_pto_ns) + g->ack_delay_ns;

	if (s->flying == 0 && s->settled == s->next)
		return REL_NEVER;
	for (unsigned i = 0; i < s->ptos && pto < g->most_pto_ns; i++)
		pto *= 2;
	return s->pto_from_ns + pto;
}

// Nothing was heard for too long: the oldest part goes again, and from the second time on a small
// packet with it, which passes where only large ones vanish.
static void on_pto(struct rel_send *s, uint64_t now_ns)
{
	uint64_t number = s->floor;

	s->c.stats.timeouts++;
	s->pto_from_ns = now_ns;
	s->ptos++;
	s->probes = PTO_PROBES;
	while (number < s->c.number) {
		const struct rel_send_packet *k = rel_send_packet_slot(s, number);

		if (k->state == REL_PACKET_FLYING && k->kind == REL_PACKET_PART)
			break;
		number++;
	}
	if (number < s->c.number)
		rel_send_lose(s, number, now_ns);
	if (number == s->c.number || s->ptos > 1)
		s->ping = true;
	if (s->ptos == COLLAPSE_PTOS) {
		congestion_collapse(&s->cc);
		rel_send_rate(s);
	}
}

void rel_send_timer(struct rel_send *s, uint64_t now_ns)
{
	rel_timer(&s->c, now_ns);
	if (s->c.state != REL_OPEN || s->c.error != 0)
		return;
	if (now_ns >= s->loss_ns)
		rel_send_detect(s, now_ns);
	if (now_ns >= rel_send_pto_at(s))
		on_pto(s, now_ns);
	if (now_ns >= rel_send_barrier_due(s)) {
		s->barrier_from_ns = REL_NEVER;
		rel_send_give_up(s);
	}
	if (now_ns - s->c.said_ns >= s->c.cfg.keepalive_ns)
		s->ping = true;
}
