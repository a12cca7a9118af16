// SPDX-License-Identifier: BSD-3-Clause
// Which part of which frame goes next. Run by the source's polling core; pure.
//
// Invariants: a line has one carrier (rel_send.h): carry moves it from the frame's uncut rest or
// its map of lost lines into a packet. What was lost goes before what is new. Nothing is picked
// beyond the target's credits.

#include "rel_send.h"

#include "bits.h"
#include "codec.h"
#include "plant.h"

#define PAGE_LINES ((uint32_t)PAGE_BYTES / PACKET_LINE_BYTES)

static uint32_t most_lines(const struct rel_send *s)
{
	return (s->path.mtu - s->c.cfg.overhead_bytes - PACKET_DATA_BYTES) / PACKET_LINE_BYTES;
}

// How many of n lines from `line` on go into one packet.
static uint32_t cut_lines(
	const struct rel_send *s, const struct rel_send_frame *f, uint32_t line, uint32_t n)
{
	uint32_t most = most_lines(s);

	if (s->c.cfg.page_parts && f->hdr.codec == CODEC_RAW && most >= PAGE_LINES)
		most = (line + most) / PAGE_LINES * PAGE_LINES - line;
	return n < most ? n : most;
}

// The lowest frame with lost lines first: it holds up the target's window.
static bool pick_lost(const struct rel_send *s, struct rel_send_part *p)
{
	uint32_t nslots = s->c.cfg.frames, most = most_lines(s);
	uint64_t seq = s->settled;
	const uint64_t *map;
	uint32_t run = 0;

	if (s->lost_frames == 0)
		return false;
	while (!bits_test(s->lost_frame, seq & (nslots - 1))) {
		uint64_t rest = s->lost_frame[(seq & (nslots - 1)) / 64] >> seq % 64;

		seq += rest != 0 ? (uint64_t)__builtin_ctzll(rest) : 64 - seq % 64;
	}
	map = s->lost_line + (seq & (nslots - 1)) * REL_LINE_WORDS;
	p->seq = seq;
	p->line = 0;
	while (map[p->line / 64] == 0)
		p->line += 64;
	p->line += (uint32_t)__builtin_ctzll(map[p->line / 64]);
	while (run < most && p->line + run < REL_LINES && bits_test(map, p->line + run))
		run++;
	p->lines = cut_lines(s, rel_send_slot(s, seq), p->line, run);
	p->resend = true;
	return true;
}

static bool pick_new(const struct rel_send *s, struct rel_send_part *p)
{
	const struct rel_send_frame *f = rel_send_slot(s, s->cut);

	if (s->cut >= s->next)
		return false;
	if ((s->cut >= s->frame_limit || f->pos + rel_room(f->hdr.payload_bytes) > s->pos_limit) &&
		!plant(PLANT_NIC_NO_CREDIT))
		return false;
	p->seq = s->cut;
	p->line = s->cut_line;
	p->lines = cut_lines(s, f, s->cut_line, f->lines - s->cut_line);
	p->resend = false;
	return true;
}

bool rel_send_pick(const struct rel_send *s, struct rel_send_part *p)
{
	return pick_lost(s, p) || pick_new(s, p);
}

// The part has a packet now.
void rel_send_carry(struct rel_send *s, const struct rel_send_part *p)
{
	struct rel_send_frame *f = rel_send_slot(s, p->seq);
	uint64_t slot = p->seq & (s->c.cfg.frames - 1);

	f->flying++;
	if (!p->resend) {
		s->cut_line += p->lines;
		if (s->cut_line == f->lines) {
			s->cut++;
			s->cut_line = 0;
		}
		return;
	}
	bits_clear_range(s->lost_line + slot * REL_LINE_WORDS, p->line, p->lines);
	f->lost -= p->lines;
	if (f->lost == 0) {
		bits_clear(s->lost_frame, slot);
		s->lost_frames--;
	}
}
