// SPDX-License-Identifier: BSD-3-Clause
// The target's end of a reliable flow: parts become frames. Run by the target's polling core; pure.
//
// Invariants: answered <= low <= answered + frames, and a slot outside of [answered, answered +
// frames) is EMPTY. A line of a frame is counted once, so `whole` is said once. A barrier is handed
// out when low has reached it. No packet number is marked as come before its part was accepted.

#include "rel_recv.h"

#include "bits.h"
#include "plant.h"
#include "wire.h"

#include <errno.h>
#include <string.h>

#define FRAME_SEQ_AT 8u // frame.h

enum { SLOT_EMPTY, SLOT_PARTIAL, SLOT_HELD, SLOT_WHOLE, SLOT_TAKEN, SLOT_ANSWERED, SLOT_GIVEN_UP };

static struct rel_recv_frame *slot_of(const struct rel_recv *r, uint64_t seq)
{
	return &r->frame[seq & (r->c.cfg.frames - 1)];
}

static uint64_t *lines_of(const struct rel_recv *r, uint64_t seq)
{
	return r->line + (seq & (r->c.cfg.frames - 1)) * REL_LINE_WORDS;
}

size_t rel_recv_bytes(const struct rel_config *cfg)
{
	return cfg->frames * (sizeof(struct rel_recv_frame) + (REL_LINE_WORDS + 1) * 8 + 8) + 64;
}

void rel_recv_init(struct rel_recv *r, const struct rel_config *cfg, void *mem, uint64_t now_ns)
{
	memset(r, 0, sizeof(*r));
	rel_init(&r->c, cfg, now_ns);
	r->line = mem;
	r->ready = r->line + (size_t)cfg->frames * REL_LINE_WORDS;
	r->answer = r->ready + cfg->frames;
	r->frame = (struct rel_recv_frame *)(r->answer + cfg->frames / 64);
	r->ack_at_ns = REL_NEVER;
}

static void make_ready(struct rel_recv *r, uint64_t seq)
{
	slot_of(r, seq)->state = SLOT_WHOLE;
	r->ready[r->ready_tail++ & (r->c.cfg.frames - 1)] = seq;
}

// Moves both cursors as far as they go.
static void advance(struct rel_recv *r)
{
	struct rel_recv_frame *f = slot_of(r, r->answered);

	while (f->state >= SLOT_ANSWERED) {
		if (f->state == SLOT_ANSWERED)
			r->answered_pos =
				rel_max(r->answered_pos, f->pos + rel_room(f->hdr.payload_bytes));
		f->state = SLOT_EMPTY;
		bits_clear(r->answer, r->answered & (r->c.cfg.frames - 1));
		r->answered++;
		// What was given up unseen has taken room too: the source says how much.
		if (r->answered == r->settled)
			r->answered_pos = rel_max(r->answered_pos, r->settled_pos);
		f = slot_of(r, r->answered);
	}
	r->low = rel_max(r->low, r->answered);
	while (r->low < r->answered + r->c.cfg.frames && slot_of(r, r->low)->state >= SLOT_TAKEN)
		r->low++;
	if (r->low < r->answered + r->c.cfg.frames && slot_of(r, r->low)->state == SLOT_HELD)
		make_ready(r, r->low);
}

// The source wants nothing more of frames below settled.
static void settle(struct rel_recv *r, uint64_t settled, uint64_t settled_pos)
{
	if (settled <= r->settled || settled > r->answered + r->c.cfg.frames)
		return;
	for (uint64_t seq = rel_max(r->answered, r->settled); seq < settled; seq++) {
		struct rel_recv_frame *f = slot_of(r, seq);

		if (f->state <= SLOT_HELD)
			f->state = SLOT_GIVEN_UP;
	}
	if (r->barrier_seq < settled)
		r->has_barrier = false;
	r->settled = settled;
	r->settled_pos = settled_pos;
	if (r->answered == settled)
		r->answered_pos = rel_max(r->answered_pos, settled_pos);
	advance(r);
}

// Older packets are dropped, and meanwhile fewer frames are answered than marks have numbers.
_Static_assert(REL_RECV_NUMBERS + PACKET_FRAMES + 2 * PACKET_ACK_MARKS < UINT16_MAX / 2,
	"an old packet could pass for one that has read newer marks");

// The source has read marks before this number. An older packet says a smaller one.
static void forget_marks(struct rel_recv *r, uint16_t known)
{
	uint16_t n = (uint16_t)(known - r->first_mark);

	if (n == 0 || n > r->nmarks)
		return;
	r->nmarks -= n;
	r->first_mark = known;
	memmove(r->mark, r->mark + n, r->nmarks * sizeof(r->mark[0]));
}

// The frame's header comes with each part. The first one opens the slot, all others must be equal.
static struct rel_recv_frame *open_slot(
	struct rel_recv *r, const struct packet_data *d, const struct frame *hdr)
{
	struct rel_recv_frame *f = slot_of(r, hdr->seq);
	uint32_t lines = rel_lines(hdr->payload_bytes);

	if (f->state != SLOT_EMPTY)
		return f->pos == d->pos && memcmp(f->raw, d->frame, FRAME_HDR_BYTES) == 0 ? f
											  : NULL;
	memcpy(f->raw, d->frame, FRAME_HDR_BYTES);
	f->hdr = *hdr;
	f->pos = d->pos;
	f->missing = lines;
	f->state = SLOT_PARTIAL;
	memset(lines_of(r, hdr->seq), 0, (lines + 63) / 64 * 8);
	return f;
}

static bool part_is_good(const struct packet_data *d, const struct frame *f)
{
	uint64_t end = (uint64_t)d->offset + d->bytes;

	if (f->type >= FRAME_ACK || end > f->payload_bytes)
		return false;
	if (f->payload_bytes == 0)
		return d->offset == 0;
	return d->bytes > 0 && (end % PACKET_LINE_BYTES == 0 || end == f->payload_bytes);
}

// The frame's header. Most parts are of a frame whose header was decoded before: then it is enough
// that the bytes are the same.
static bool read_header(const struct rel_recv *r, const uint8_t *raw, struct frame *hdr)
{
	const struct rel_recv_frame *f;
	struct wire_reader w;

	wire_read_init(&w, raw + FRAME_SEQ_AT, sizeof(uint64_t));
	f = slot_of(r, wire_u64(&w));
	if (f->state != SLOT_PARTIAL || memcmp(f->raw, raw, FRAME_HDR_BYTES) != 0)
		return frame_decode(hdr, raw) == 0;
	*hdr = f->hdr;
	return true;
}

// True when the part is new; *ok says whether the packet counts as come.
static bool take_part(struct rel_recv *r, const struct packet_data *d, const struct frame *hdr,
	struct rel_part *part, bool *ok)
{
	struct rel_recv_frame *f;
	uint64_t *lines = lines_of(r, hdr->seq);
	uint32_t first = d->offset / PACKET_LINE_BYTES, n = rel_lines(d->bytes), fresh;

	*ok = false;
	if (hdr->seq >= r->answered + r->c.cfg.frames ||
		(hdr->seq >= r->answered &&
			(d->pos < r->answered_pos ||
				d->pos + rel_room(hdr->payload_bytes) >
					r->answered_pos + r->c.cfg.ring_bytes))) {
		r->c.stats.beyond++;
		return false;
	}
	*ok = true;
	if (hdr->seq < r->answered || slot_of(r, hdr->seq)->state >= SLOT_HELD)
		return false; // we have all of it, or nobody wants it any more
	f = open_slot(r, d, hdr);
	if (f == NULL) {
		r->c.stats.bad++;
		*ok = false;
		return false;
	}
	fresh = n - (uint32_t)bits_count_range(lines, first, n);
	if (fresh == 0)
		return false;
	bits_set_range(lines, first, n);
	f->missing -= fresh;
	*part = (struct rel_part){&f->hdr, f->pos, d->offset, d->bytes, d->part, f->missing == 0};
	if (f->missing > 0)
		return true;
	if (hdr->type != FRAME_BARRIER || plant(PLANT_NIC_BARRIER_EARLY)) {
		make_ready(r, hdr->seq);
	} else {
		f->state = SLOT_HELD;
		advance(r);
	}
	return true;
}

static bool on_data(struct rel_recv *r, uint64_t now_ns, const struct packet *p, const uint8_t *buf,
	bool ce, struct rel_part *part)
{
	struct packet_data d;
	struct frame hdr;
	bool fresh, ok;

	if (packet_get_data(&d, p, buf) < 0 || !read_header(r, d.frame, &hdr) ||
		!part_is_good(&d, &hdr) || d.settled_back > hdr.seq) {
		r->c.stats.bad++;
		return false;
	}
	forget_marks(r, d.marks_known);
	settle(r, hdr.seq - d.settled_back, d.pos - d.settled_pos_back);
	fresh = take_part(r, &d, &hdr, part, &ok);
	if (!ok)
		rel_recv_ack_soon(r, now_ns);
	else
		rel_recv_count(r, now_ns, p, ce);
	return fresh;
}

static void on_ping(
	struct rel_recv *r, uint64_t now_ns, const struct packet *p, const uint8_t *buf, bool ce)
{
	struct packet_ping g;

	if (packet_get_ping(&g, p, buf) < 0) {
		r->c.stats.bad++;
		return;
	}
	forget_marks(r, g.marks_known);
	settle(r, g.settled, g.settled_pos);
	rel_recv_count(r, now_ns, p, ce);
}

bool rel_recv_packet(struct rel_recv *r, uint64_t now_ns, const uint8_t *buf, size_t len, bool ce,
	struct rel_part *part)
{
	struct packet p;

	if (rel_open(&r->c, &p, buf, len) < 0) {
		r->c.stats.bad++;
		return false;
	}
	r->c.stats.packets_in++;
	r->c.heard_ns = now_ns;
	if (p.type == PACKET_BYE) {
		rel_on_bye(&r->c, &p, buf, now_ns);
		return false;
	}
	if (r->c.state != REL_OPEN || r->c.error != 0)
		return false;
	if (rel_recv_seen(r, p.number)) {
		// The source may not know: what told it was lost.
		r->c.stats.duplicate++;
		rel_recv_ack_soon(r, now_ns);
		return false;
	}
	if (p.type == PACKET_DATA)
		return on_data(r, now_ns, &p, buf, ce, part);
	if (p.type == PACKET_PING)
		on_ping(r, now_ns, &p, buf, ce);
	return false;
}

bool rel_recv_take(struct rel_recv *r, const struct frame **hdr, uint64_t *pos)
{
	struct rel_recv_frame *f;

	if (r->ready_head == r->ready_tail)
		return false;
	f = slot_of(r, r->ready[r->ready_head++ & (r->c.cfg.frames - 1)]);
	f->state = SLOT_TAKEN;
	*hdr = &f->hdr;
	*pos = f->pos;
	advance(r);
	return true;
}

bool rel_recv_answer(struct rel_recv *r, uint64_t now_ns, uint64_t seq, enum rel_answer a)
{
	struct rel_recv_frame *f = slot_of(r, seq);

	if (f->state != SLOT_TAKEN || f->hdr.seq != seq)
		return true;
	if (a != REL_PLACED && seq >= r->settled) {
		if (r->nmarks == PACKET_ACK_MARKS)
			return false;
		r->mark[r->nmarks++] = seq | (a == REL_LOST ? PACKET_MARK_LOST : 0);
	}
	f->state = SLOT_ANSWERED;
	bits_set(r->answer, seq & (r->c.cfg.frames - 1));
	r->top = rel_max(r->top, seq + 1);
	advance(r);
	rel_recv_ack_soon(r, now_ns);
	return true;
}

void rel_recv_answer_barrier(struct rel_recv *r, uint64_t now_ns, const struct frame *f)
{
	struct frame copy = *f;

	frame_encode(&copy, r->barrier);
	r->has_barrier = true;
	r->barrier_seq = f->seq;
	rel_recv_answer(r, now_ns, f->seq, REL_PLACED);
	r->ack_at_ns = now_ns;
}

void rel_recv_timer(struct rel_recv *r, uint64_t now_ns)
{
	rel_timer(&r->c, now_ns);
}

uint64_t rel_recv_deadline(const struct rel_recv *r)
{
	uint64_t at = rel_deadline(&r->c);

	return r->c.state == REL_OPEN && r->c.error == 0 ? rel_min(at, r->ack_at_ns) : at;
}
