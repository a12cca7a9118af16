// SPDX-License-Identifier: BSD-3-Clause
// The target's turn: frames from the link, checked, decoded, placed, answered. Run by the flow's
// polling core; no system call (but the link's), lock, log or allocation.
//
// Invariants: a frame touches guest memory only if it fits the guest, is of the pass under way, is
// the first of its chunk in that pass (law 5), and its payload matches its checksum (law 10), or
// its seal on a sealed link. A
// barrier is answered when all frames before it were placed or refused, and their holes are made.

#include "recv.h"

#include "bits.h"
#include "cpu.h"
#include "crc.h"
#include "place.h"
#include "plant.h"
#include "punch.h"

#include <errno.h>

#define RECV_TURN_FRAMES 32u    // handled in one turn, at most
#define RECV_TURN_CHUNKS 65536u // that they name, before other flows of this core get their turn

enum verdict { VERDICT_PLACE, VERDICT_DROP, VERDICT_TORN, VERDICT_BAD };

static enum verdict bad_frame(struct recv *r, const struct frame *f, const char *what)
{
	flow_fail(r->flow, EPROTO, "frame %llu of flow: %s; the peer or the wire is faulty",
		(unsigned long long)f->seq, what);
	return VERDICT_BAD;
}

// The chunks of a frame were settled in this pass before: placed, or refused as torn. A refused
// chunk comes again in a later pass, so a second frame in this one is a copy by the link. Such a
// copy is dropped without an answer: it must not make a refused frame look placed.
static bool settle(struct recv *r, const struct frame *f)
{
	_Atomic uint32_t *marks = r->job->placed_pass + r->job->map->r[f->region].first_chunk;
	uint32_t mark = f->pass + 1;
	bool before = false;

	for (uint32_t i = 0; i < f->chunks; i++)
		before |= atomic_exchange_explicit(
				  &marks[f->chunk + i], mark, memory_order_relaxed) == mark;
	return before;
}

static enum verdict decode(struct recv *r, const struct link_rx *x)
{
	const struct frame *f = &x->hdr;
	struct codec *c = r->codec[f->codec];

	r->source = x->payload;
	if (f->codec == CODEC_RAW || f->data == 0)
		return VERDICT_PLACE;
	r->source = r->pages;
	if (c->ops->decode(c, x->payload, f->payload_bytes, r->pages,
		    bits_count(f->data) * PAGE_BYTES) < 0)
		return bad_frame(r, f, "its payload can't be decoded, though its checksum matches");
	return VERDICT_PLACE;
}

// Pages that are fresh are better written all at once (fresh.h), so those of a frame that has some
// come whole. What is placed in parts and then given up by the source is dirty there: it comes
// again in a later pass. Old content that was kept may be spoilt by parts: it counts as stale until
// a whole frame speaks of it.
uint8_t *recv_begin(void *arg, const struct frame *f)
{
	struct recv *r = arg;
	const struct region_map *m = r->job->map;
	uint64_t chunk;

	if (f->type != FRAME_CHUNK || f->codec != CODEC_RAW || f->data == 0 ||
		frame_check(f, m) < 0 || f->pass != r->pass || r->answering)
		return NULL;
	chunk = m->r[f->region].first_chunk + f->chunk;
	if ((f->data & ~r->job->written[chunk]) != 0 ||
		atomic_load_explicit(&r->job->placed_pass[chunk], memory_order_relaxed) ==
			f->pass + 1)
		return NULL;
	settle(r, f);
	return region_chunk_addr(&m->r[f->region], f->chunk);
}

// What a device placed before its header came: only where it may, only in the pass under way, only
// once (law 5). The pages count as written at once, whatever becomes of the frame.
bool recv_came(void *arg, const struct frame *f)
{
	struct recv *r = arg;

	return f->type == FRAME_CHUNK && f->codec == CODEC_RAW && f->data != 0 &&
	       frame_check(f, r->job->map) == 0 && r->job->pinned[f->region] &&
	       f->pass == r->pass && !r->answering && !settle(r, f);
}

static enum verdict judge(struct recv *r, const struct link_rx *x)
{
	const struct frame *f = &x->hdr;
	int rc = frame_check(f, r->job->map);

	if (rc < 0)
		return bad_frame(r, f, frame_bad_text(rc));
	if (f->pass > r->pass || (f->pass == r->pass && r->answering) || f->pass == UINT32_MAX)
		return bad_frame(r, f, frame_bad_text(FRAME_BAD_ORDER));
	if (f->pass < r->pass && !plant(PLANT_LAW5_PLACE_STALE)) {
		stats_add(&r->flow->stats, STAT_frames_stale, 1);
		return VERDICT_DROP;
	}
	if (x->placed) {
		r->source = NULL;
		return VERDICT_PLACE;
	}
	if (settle(r, f) && !plant(PLANT_LAW5_PLACE_TWICE)) {
		stats_add(&r->flow->stats, STAT_frames_twice, 1);
		return VERDICT_DROP;
	}
	if (r->flow->link->sealed || (r->flow->link->sums_parts && f->codec == CODEC_RAW))
		return decode(r, x);
	if (f->payload_bytes > 0 && crc32c(0, x->payload, f->payload_bytes) != f->payload_crc &&
		!plant(PLANT_LAW10_PLACE_TORN))
		return VERDICT_TORN;
	return decode(r, x);
}

static void answer(struct recv *r, uint8_t type, const struct frame *f)
{
	r->answer = (struct frame){.type = type, .pass = f->pass, .seq = f->seq};
	r->has_answer = true;
}

static void on_barrier(struct recv *r, const struct frame *f)
{
	if (f->pass != r->pass || r->answering) {
		bad_frame(r, f, frame_bad_text(FRAME_BAD_ORDER));
		return;
	}
	r->barrier = (struct frame){
		.type = FRAME_BARRIER_ACK,
		.pass = f->pass,
		.seq = f->seq,
		.data = r->placed,
		.zero = r->sum,
		.hole = r->torn,
	};
	r->answering = true;
	r->ticket = punch_ticket(r->job->punch);
	r->pass++;
	r->placed = r->sum = r->torn = 0;
}

static void on_placed(struct recv *r, const struct frame *f)
{
	const struct region *g = &r->job->map->r[f->region];
	struct stats *st = &r->flow->stats;
	uint64_t pages = bits_count(f->data | f->zero | f->hole);

	if (f->type != FRAME_CHUNK) {
		uint64_t left = (g->bytes >> PAGE_SHIFT) - (uint64_t)f->chunk * CHUNK_PAGES;

		pages = (uint64_t)f->chunks * CHUNK_PAGES;
		pages = pages < left ? pages : left;
	}
	r->placed++;
	r->sum += frame_sum(f);
	stats_add(st, STAT_frames, 1);
	stats_add(st, STAT_bytes_pages, pages << PAGE_SHIFT);
	stats_add(st, STAT_bytes_raw, bits_count(f->data) << PAGE_SHIFT);
	stats_add(st, STAT_bytes_encoded, f->payload_bytes);
	stats_add(st, STAT_pages_data, bits_count(f->data));
	stats_add(st, STAT_pages_zero, f->type == FRAME_ZERO ? pages : bits_count(f->zero));
	stats_add(st, STAT_pages_hole, f->type == FRAME_HOLE ? pages : bits_count(f->hole));
	answer(r, FRAME_ACK, f);
}

static void refuse(struct recv *r, const struct frame *f)
{
	r->torn++;
	stats_add(&r->flow->stats, STAT_frames_torn, 1);
	stats_add(&r->flow->stats, STAT_pages_torn, bits_count(f->data | f->zero | f->hole));
	answer(r, FRAME_TORN, f);
}

// Handles the frame in hand. False when it has to be taken up again later.
static bool handle(struct recv *r)
{
	const struct link_rx *x = &r->rx;
	uint64_t t0 = cpu_cycles(), t1;

	if (x->hdr.type == FRAME_BARRIER) {
		on_barrier(r, &x->hdr);
		return true;
	}
	if (!r->placing) {
		enum verdict v = judge(r, x);

		if (v == VERDICT_TORN)
			refuse(r, &x->hdr);
		r->placing = v == VERDICT_PLACE;
		r->place_at = 0;
	}
	t1 = cpu_cycles();
	stats_add(&r->flow->stats, STAT_cycles_decode, t1 - t0);
	if (r->placing) {
		r->placing = !place_frame(r->job, &x->hdr, r->source, &r->place_at);
		stats_add(&r->flow->stats, STAT_cycles_place, cpu_cycles() - t1);
		if (!r->placing)
			on_placed(r, &x->hdr);
	}
	return !r->placing;
}

// Answers the barrier once its holes are made. Frames may come before that: stale ones.
static void answer_barrier(struct recv *r)
{
	struct link *l = r->flow->link;
	int rc;

	// Acquires what the helper did; only then its error is the last word on these holes.
	if (!punch_done(r->job->punch, r->ticket))
		return;
	rc = punch_error(r->job->punch);
	if (rc != 0) {
		flow_fail(r->flow, rc,
			"holes can't be made in the guest's memory file; check that its file "
			"system can punch holes, and its quota");
		return;
	}
	if (!l->ops->answer(l, &r->barrier))
		return;
	r->answering = false;
	// Release: what was placed is seen by the control thread that acquires it.
	atomic_store_explicit(&r->flow->done_pass, r->barrier.pass, memory_order_release);
	r->moved = true;
}

static bool failed(const struct recv *r)
{
	return atomic_load_explicit(&r->flow->error, memory_order_relaxed) != 0;
}

static bool take(struct recv *r)
{
	struct link *l = r->flow->link;
	uint64_t t0 = l->sealed ? cpu_cycles() : 0;

	if (l->ops->rx(l, &r->rx, 1) == 0)
		return false;
	flow_heard(r->flow);
	if (l->sealed)
		stats_add(&r->flow->stats, STAT_cycles_seal, cpu_cycles() - t0);
	return true;
}

// Handles frames that the link holds. False when the one in hand is not done with: its payload is
// valid only until the next poll.
static bool drain(struct recv *r)
{
	struct link *l = r->flow->link;

	uint64_t chunks = 0;

	for (unsigned n = 0; n < RECV_TURN_FRAMES && chunks < RECV_TURN_CHUNKS && !failed(r); n++) {
		if (r->has_answer && !l->ops->answer(l, &r->answer))
			return true;
		r->has_answer = false;
		if (!r->has_frame && !take(r))
			return true;
		r->moved = true;
		chunks += r->rx.hdr.chunks;
		r->has_frame = !handle(r);
		if (r->has_frame)
			return false;
	}
	return false;
}

bool recv_turn(struct recv *r)
{
	struct flow *f = r->flow;
	struct link *l = f->link;
	uint64_t t0;

	r->moved = false;
	if (drain(r) && l->error == 0) {
		t0 = cpu_cycles();
		if (l->ops->poll(l) > 0) {
			stats_add(&f->stats, STAT_cycles_recv, cpu_cycles() - t0);
			r->moved = true;
		}
	}
	if (r->answering && !failed(r))
		answer_barrier(r);
	if (l->error != 0) {
		flow_fail(f, l->error, "%s", l->why.text);
		return true;
	}
	return r->moved;
}
