// SPDX-License-Identifier: BSD-3-Clause
// The source's end of a reliable flow: frames in, datagrams out, what became of the frames. Run by
// the source's polling core; pure.
//
// Invariants: taken <= settled <= next < taken + frames; a line has one carrier (rel_send.h); a
// part is sent only if frame_limit and pos_limit grant its frame; a packet goes out only if the
// ring of packets has room for it, so that each one in flight is known.

#include "rel_send.h"

#include "bits.h"
#include "clock.h"
#include "plant.h"

#include <string.h>

#define BURST_PARTS 8u // of the target: what may go at once after a late turn

struct rel_send_frame *rel_send_slot(const struct rel_send *s, uint64_t seq)
{
	return &s->frame[seq & (s->c.cfg.frames - 1)];
}

struct rel_send_packet *rel_send_packet_slot(const struct rel_send *s, uint64_t number)
{
	return &s->packet[number & (s->c.cfg.packets - 1)];
}

size_t rel_send_bytes(const struct rel_config *cfg)
{
	return cfg->frames * (REL_LINE_WORDS * 8 + sizeof(struct rel_send_frame) + 8) +
	       cfg->frames / 64 * 16 + cfg->packets * sizeof(struct rel_send_packet) +
	       cfg->packets / 64 * 8;
}

void rel_send_init(struct rel_send *s, const struct rel_config *cfg, void *mem, uint64_t now_ns)
{
	memset(s, 0, sizeof(*s));
	rel_init(&s->c, cfg, now_ns);
	s->lost_line = mem;
	s->report = s->lost_line + (size_t)cfg->frames * REL_LINE_WORDS;
	s->lost_frame = s->report + cfg->frames;
	s->done = s->lost_frame + cfg->frames / 64;
	s->seen = s->done + cfg->frames / 64;
	s->packet = (struct rel_send_packet *)(s->seen + cfg->packets / 64);
	s->frame = (struct rel_send_frame *)(s->packet + cfg->packets);
	path_init(&s->path, cfg->mtu_base, cfg->mtu_most);
	congestion_init(&s->cc, cfg->target_ns, cfg->first_rtt_ns, s->path.mtu,
		(uint64_t)cfg->packets / 2 * cfg->mtu_most);
	s->frame_limit = cfg->frames;
	s->pos_limit = cfg->ring_bytes;
	s->barrier = s->barrier_from_ns = s->loss_ns = REL_NEVER;
	s->floor = s->round_end = cfg->first_number;
	s->reorder = REL_SEND_REORDER;
	s->reorder_eighths = 1;
	s->pto_from_ns = now_ns;
	rel_send_rate(s);
}

void rel_send_rate(struct rel_send *s)
{
	double rate = (double)congestion_rate(&s->cc);

	if (s->bytes_per_s != 0 && (double)s->bytes_per_s < rate)
		rate = (double)s->bytes_per_s;
	s->ns_per_byte = rate < 1 ? (double)NS_PER_S : (double)NS_PER_S / rate;
}

// Frames.

bool rel_send_frame(struct rel_send *s, struct frame *f, uint64_t now_ns)
{
	struct rel_send_frame *t = rel_send_slot(s, s->next);

	if (s->c.state != REL_OPEN || s->c.error != 0 || s->barrier != REL_NEVER ||
		s->next - s->taken >= s->c.cfg.frames || s->next >= s->frame_limit)
		return false;
	if (s->settled == s->next && s->flying == 0)
		s->pto_from_ns = now_ns;
	f->seq = s->next;
	memset(t, 0, sizeof(*t));
	frame_encode(f, t->raw);
	t->hdr = *f;
	t->pos = s->next_pos;
	t->lines = rel_lines(f->payload_bytes);
	bits_clear(s->done, s->next & (s->c.cfg.frames - 1));
	s->next_pos += rel_room(f->payload_bytes);
	if (f->type == FRAME_BARRIER) {
		s->barrier = s->next;
		rel_send_news(s, now_ns);
	}
	s->next++;
	return true;
}

void rel_send_news(struct rel_send *s, uint64_t now_ns)
{
	s->barrier_from_ns = now_ns;
	s->barrier_away_ns = s->c.away_sum_ns;
}

uint64_t rel_send_barrier_due(const struct rel_send *s)
{
	if (s->barrier_from_ns == REL_NEVER || s->c.cfg.barrier_ns == 0)
		return REL_NEVER;
	return s->barrier_from_ns + s->c.cfg.barrier_ns + s->c.away_sum_ns - s->barrier_away_ns;
}

// Moves the cursors behind which nothing is of interest.
void rel_send_advance(struct rel_send *s)
{
	while (s->cut < s->next && rel_send_slot(s, s->cut)->state != REL_FRAME_OUT) {
		s->cut++; // given up before it was cut
		s->cut_line = 0;
	}
	while (s->settled < s->next && rel_send_slot(s, s->settled)->state != REL_FRAME_OUT)
		s->settled++;
	while (s->free < s->next) {
		const struct rel_send_frame *f = rel_send_slot(s, s->free);

		if (s->free >= s->settled && f->state == REL_FRAME_OUT &&
			(f->flying > 0 || f->lost > 0 || s->free >= s->cut))
			break;
		s->free++;
	}
}

void rel_send_settle(struct rel_send *s, uint64_t seq, enum rel_frame_state state)
{
	struct rel_send_frame *f = rel_send_slot(s, seq);
	uint64_t slot = seq & (s->c.cfg.frames - 1);

	if (seq < s->settled || seq >= s->next || f->state != REL_FRAME_OUT)
		return;
	f->state = (uint8_t)state;
	bits_set(s->done, slot);
	if (f->lost > 0) {
		memset(s->lost_line + slot * REL_LINE_WORDS, 0, REL_LINE_WORDS * 8);
		bits_clear(s->lost_frame, slot);
		s->lost_frames--;
		f->lost = 0;
	}
	s->report[s->report_tail++ & (s->c.cfg.frames - 1)] = seq;
}

bool rel_send_take(struct rel_send *s, struct rel_done *d)
{
	struct rel_send_frame *f;
	uint64_t seq;

	if (s->report_head == s->report_tail)
		return false;
	seq = s->report[s->report_head++ & (s->c.cfg.frames - 1)];
	f = rel_send_slot(s, seq);
	f->reported = true;
	d->state = f->state;
	d->barrier = seq == s->barrier;
	d->hdr = f->hdr;
	if (d->barrier) {
		d->hdr = s->barrier_answer;
		s->barrier = s->barrier_from_ns = REL_NEVER;
	}
	while (s->taken < s->settled && rel_send_slot(s, s->taken)->reported)
		s->taken++;
	return true;
}

void rel_send_give_up(struct rel_send *s)
{
	for (uint64_t seq = s->settled; seq < s->next; seq++)
		if (seq != s->barrier)
			rel_send_settle(s, seq, REL_FRAME_LOST);
	rel_send_advance(s);
	s->ping = true;
}

// Packets.

static bool has_room(const struct rel_send *s)
{
	return s->c.number - s->floor < s->c.cfg.packets - 64;
}

// Notes a packet as sent. It is `bytes` long as an IP packet.
static void launch(struct rel_send *s, uint64_t number, uint8_t kind, uint32_t bytes,
	const struct rel_send_part *p, uint64_t now_ns)
{
	// What was not sent while the core was away may go at once: the window bounds it.
	uint64_t burst_ns = rel_max(s->c.cfg.target_ns / BURST_PARTS, rel_away(&s->c, now_ns));
	uint64_t oldest = now_ns > burst_ns ? now_ns - burst_ns : 0;

	*rel_send_packet_slot(s, number) = (struct rel_send_packet){
		.seq = p->seq,
		.sent_ns = now_ns,
		.line = p->line,
		.lines = (uint16_t)p->lines,
		.bytes = (uint16_t)bytes,
		.away = rel_away_sum(&s->c),
		.peer_away = s->peer_away,
		.kind = kind,
		.state = REL_PACKET_FLYING,
	};
	bits_clear(s->seen, number & (s->c.cfg.packets - 1));
	if (s->flying++ == 0)
		s->pto_from_ns = now_ns;
	s->flying_bytes += bytes;
	s->pace_ns = rel_max(s->pace_ns, oldest) + (uint64_t)(s->ns_per_byte * bytes);
}

static void settled_of(const struct rel_send *s, struct packet_ping *g)
{
	g->settled = s->settled;
	g->marks_known = s->marks_known;
	g->settled_pos = s->settled == s->next ? s->next_pos : rel_send_slot(s, s->settled)->pos;
}

static bool window_allows(const struct rel_send *s, uint32_t bytes)
{
	return s->flying == 0 || s->flying_bytes + bytes <= congestion_window(&s->cc);
}

static void send_part(
	struct rel_send *s, uint64_t now_ns, const struct rel_send_part *part, struct rel_out *o)
{
	const struct rel_send_frame *f = rel_send_slot(s, part->seq);
	struct packet p = rel_begin(&s->c, PACKET_DATA, now_ns);
	struct packet_data d = {.pos = f->pos, .frame = f->raw};
	uint64_t quarter = congestion_window(&s->cc) / s->cc.mss_bytes / 4;
	struct packet_ping g;
	uint64_t number = p.number;
	struct rel_send_part next;

	settled_of(s, &g);
	d.settled_back = (uint16_t)(part->seq - g.settled);
	d.marks_known = s->marks_known;
	d.settled_pos_back = (uint32_t)(f->pos - g.settled_pos);
	d.offset = part->line * PACKET_LINE_BYTES;
	d.bytes =
		(uint32_t)rel_min(part->lines * PACKET_LINE_BYTES, f->hdr.payload_bytes - d.offset);
	p.bytes = (uint16_t)(PACKET_DATA_BYTES + d.bytes);
	if (part->resend && plant(PLANT_NIC_REUSE_NUMBER))
		p.number--;
	launch(s, number, REL_PACKET_PART, p.bytes + s->c.cfg.overhead_bytes, part, now_ns);
	rel_send_carry(s, part);
	if (++s->since_ack_now > quarter || s->probes > 0 || !rel_send_pick(s, &next)) {
		p.flags = PACKET_ACK_NOW;
		s->since_ack_now = 0;
	}
	if (s->probes > 0)
		s->probes--;
	if (!window_allows(s, s->path.mtu))
		s->cc.limited = true;
	o->hdr_bytes = packet_put_data(o->hdr, &p, &d);
	o->seq = part->seq;
	o->offset = d.offset;
	o->bytes = d.bytes;
	o->pad_bytes = 0;
	o->copy = part->resend;
}

// size: of the IP packet, for a probe; 0 for a plain PING.
static void send_ping(struct rel_send *s, uint64_t now_ns, uint32_t size, struct rel_out *o)
{
	struct packet p = rel_begin(&s->c, PACKET_PING, now_ns);
	uint32_t overhead = s->c.cfg.overhead_bytes;
	struct rel_send_part none = {0};
	struct packet_ping g;

	settled_of(s, &g);
	p.bytes = (uint16_t)(size == 0 ? PACKET_PING_BYTES : size - overhead);
	if (size != 0)
		path_probe_sent(&s->path, p.number);
	launch(s, p.number, size == 0 ? REL_PACKET_PING : REL_PACKET_PROBE, p.bytes + overhead,
		&none, now_ns);
	o->hdr_bytes = packet_put_ping(o->hdr, &p, &g);
	o->bytes = 0;
	o->pad_bytes = p.bytes - PACKET_PING_BYTES;
	o->copy = false;
}

bool rel_send_next_packet(struct rel_send *s, uint64_t now_ns, struct rel_out *o)
{
	struct rel_send_part part;
	uint32_t size;

	if (rel_next_bye(&s->c, now_ns, o))
		return true;
	if (s->c.state != REL_OPEN || s->c.error != 0 || !has_room(s))
		return false;
	if (s->ping) {
		s->ping = false;
		send_ping(s, now_ns, 0, o);
		return true;
	}
	if (s->probes == 0 && now_ns < s->pace_ns)
		return false;
	size = s->cc.measured && s->ptos == 0 ? path_probe(&s->path, now_ns) : 0;
	if (size != 0 && window_allows(s, size)) {
		send_ping(s, now_ns, size, o);
		return true;
	}
	if (!rel_send_pick(s, &part)) {
		s->probes = 0;
		return false;
	}
	if (s->probes == 0 && !window_allows(s, s->path.mtu))
		return false;
	send_part(s, now_ns, &part, o);
	return true;
}

uint64_t rel_send_deadline(const struct rel_send *s)
{
	uint64_t at = rel_deadline(&s->c);
	struct rel_send_part next;

	if (s->c.state != REL_OPEN || s->c.error != 0)
		return at;
	if (s->ping)
		return 0;
	at = rel_min(at, s->loss_ns);
	at = rel_min(at, rel_send_barrier_due(s));
	at = rel_min(at, rel_send_pto_at(s));
	at = rel_min(at, s->c.said_ns + s->c.cfg.keepalive_ns);
	if (has_room(s) && window_allows(s, s->path.mtu) && rel_send_pick(s, &next))
		at = rel_min(at, s->pace_ns);
	return at;
}
