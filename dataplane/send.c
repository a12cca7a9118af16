// SPDX-License-Identifier: BSD-3-Clause
// The source's turn: what the target answered, then new chunks, then the pass's barrier. Run by the
// flow's polling core; no system call (but the link's), lock, log or allocation.
//
// Invariants: a bit of taken[] is cleared only when the target has placed its page (law 1); a
// chunk's words belong to this flow from the claim of its span until the barrier of the pass is
// answered (law 5); nothing is claimed past run_pass, so no pass begins before control closed the
// one before.

#include "send.h"

#include "bits.h"
#include "cpu.h"
#include "plant.h"

#include <errno.h>

#define DONE_BURST  64u
#define TURN_CHUNKS 32u // packed in one turn, at most

static uint64_t frame_pages(const struct send *s, const struct frame *f)
{
	const struct region *r = &s->job->map->r[f->region];
	uint64_t pages = (uint64_t)f->chunks * CHUNK_PAGES;
	uint64_t left = (r->bytes >> PAGE_SHIFT) - (uint64_t)f->chunk * CHUNK_PAGES;

	if (f->type == FRAME_CHUNK)
		return bits_count(f->data | f->zero | f->hole);
	return pages < left ? pages : left;
}

// The link has taken a frame. held says what the target may hold, so it is set before we know.
static void on_taken(void *arg, const struct frame *f)
{
	struct send *s = arg;
	struct stats *st = &s->flow->stats;
	uint64_t pages = frame_pages(s, f);
	uint64_t *held = s->job->dirty->held + s->job->map->r[f->region].first_chunk;

	s->sums.frames++;
	s->sums.sum += frame_sum(f);
	s->out_bytes += bits_count(f->data) << (PAGE_SHIFT + (f->codec != CODEC_RAW));
	pace_spend(&s->pace, FRAME_HDR_BYTES + f->payload_bytes);
	stats_add(st, STAT_frames, 1);
	stats_add(st, STAT_bytes_pages, pages << PAGE_SHIFT);
	if (f->type == FRAME_ZERO)
		stats_add(st, STAT_pages_zero, pages);
	if (f->type == FRAME_HOLE)
		stats_add(st, STAT_pages_hole, pages);
	if (f->type != FRAME_CHUNK)
		return;
	stats_add(st, STAT_pages_data, bits_count(f->data));
	stats_add(st, STAT_pages_zero, bits_count(f->zero));
	stats_add(st, STAT_pages_hole, bits_count(f->hole));
	if (f->data & ~held[f->chunk])
		held[f->chunk] |= f->data;
}

static void on_placed(struct send *s, const struct frame *f)
{
	const struct region *r = &s->job->map->r[f->region];
	struct dirty *d = s->job->dirty;

	if (s->pack.automatic != NULL && f->data != 0)
		auto_placed(s->pack.automatic, f->codec, bits_count(f->data) * PAGE_BYTES);
	for (uint32_t i = 0; i < f->chunks; i++) {
		uint32_t chunk = f->chunk + i;
		uint64_t c = r->first_chunk + chunk;
		uint64_t hole = f->type == FRAME_CHUNK ? f->hole : 0;

		if (f->type == FRAME_HOLE)
			hole = region_chunk_mask(r, chunk);
		if (d->taken[c] != 0)
			d->taken[c] = 0;
		if (hole != 0) {
			d->held[c] &= ~hole;
			d->hole[c] &= ~hole;
		}
	}
}

// Law 10: taken[] stays as it is, so control puts the pages back when the pass closes.
static void on_torn(struct send *s, const struct frame *f)
{
	s->sums.torn++;
	s->sums.torn_sum += frame_sum(f);
	stats_add(&s->flow->stats, STAT_frames_torn, 1);
	stats_add(&s->flow->stats, STAT_pages_torn, frame_pages(s, f));
	if (plant(PLANT_LAW10_FORGET_TORN))
		on_placed(s, f);
}

// What the target says it placed must be what we sent and it did not refuse. Frames whose answer
// did not arrive can have been placed or not: with such, only counts can be held against it.
static bool barrier_agrees(const struct send_sums *t, const struct frame *f)
{
	if (t->lost == 0)
		return f->data == t->frames - t->torn && f->hole == t->torn &&
		       f->zero == t->sum - t->torn_sum;
	return f->data + f->hole <= t->frames && f->hole >= t->torn &&
	       f->data >= t->frames - t->torn - t->lost;
}

static void on_barrier(struct send *s, const struct frame *f)
{
	if (!s->barrier || f->pass != s->pass || !barrier_agrees(&s->sums, f)) {
		flow_fail(s->flow, EPROTO,
			"pass %u: the target placed %llu frames and refused %llu of %llu sent, "
			"with sums that do not agree; the memory over there is not to be trusted, "
			"start again",
			s->pass, (unsigned long long)f->data, (unsigned long long)f->hole,
			(unsigned long long)s->sums.frames);
		return;
	}
	s->running = false;
	s->barrier = false;
	// Release: the planes' words of this flow go back to control, which acquires done_pass.
	atomic_store_explicit(&s->flow->done_pass, s->pass, memory_order_release);
}

static void on_done(struct send *s, const struct link_done *d)
{
	if (d->status != LINK_LOST)
		flow_heard(s->flow);
	switch (d->status) {
	case LINK_PLACED:
		on_placed(s, &d->hdr);
		break;
	case LINK_TORN:
		on_torn(s, &d->hdr);
		break;
	case LINK_LOST:
		s->sums.lost++;
		stats_add(&s->flow->stats, STAT_pages_lost, frame_pages(s, &d->hdr));
		break;
	case LINK_BARRIER:
		on_barrier(s, &d->hdr);
		break;
	}
}

static bool take_answers(struct send *s)
{
	struct link *l = s->flow->link;
	struct link_done d[DONE_BURST];
	unsigned n = l->ops->done(l, d, DONE_BURST);

	for (unsigned i = 0; i < n; i++)
		on_done(s, &d[i]);
	return n > 0;
}

// True when a pass is to be run. A pass is begun only after control asked for it.
static bool in_pass(struct send *s)
{
	struct flow *f = s->flow;
	uint32_t next = atomic_load_explicit(&f->done_pass, memory_order_relaxed) + 1;
	uint32_t run;

	if (s->running)
		return true;
	// Acquire pairs with control's release: the planes are as it left them.
	run = atomic_load_explicit(&f->run_pass, memory_order_acquire);
	if (run == FLOW_NO_PASS || next > run)
		return false;
	s->running = true;
	s->pass = next;
	s->pack.pass = next;
	s->sums = (struct send_sums){0};
	return true;
}

// Packs the next chunk of the span in hand that has anything to send. False when it is used up.
static bool pack_next(struct send *s)
{
	const struct region *r = &s->job->map->r[s->span.region];
	const struct dirty *d = s->job->dirty;

	while (s->span_at < s->span.nchunks) {
		uint64_t c = s->span.chunk + s->span_at++;
		uint64_t data = d->taken[c];
		uint64_t hole = s->span.holes ? d->hole[c] : 0;

		if ((data | hole) == 0)
			continue;
		pack_chunk(&s->pack, s->span.region, (uint32_t)(c - r->first_chunk), data,
			hole & ~data);
		return true;
	}
	return false;
}

static bool claim_next(struct send *s)
{
	uint64_t t0 = cpu_cycles();
	bool got = claim_take(s->job->claim, s->flow->node, &s->span);

	s->span_at = 0;
	if (!got)
		s->span.nchunks = 0;
	stats_add(&s->flow->stats, STAT_cycles_claim, cpu_cycles() - t0);
	return got;
}

static bool send_barrier(struct send *s)
{
	struct link *l = s->flow->link;
	struct link_tx t = {
		.hdr = {.type = FRAME_BARRIER,
			.pass = s->pass,
			.data = s->sums.frames,
			.zero = s->sums.sum},
	};

	s->barrier = l->ops->tx(l, &t, 1) == 1;
	return s->barrier;
}

static bool push(struct send *s)
{
	return pack_push(&s->pack, s->flow->link, on_taken, s) > 0;
}

// Claims and packs as far as queue, pace and the turn allow; ends the pass when all is out.
static bool send_chunks(struct send *s)
{
	uint64_t rate = atomic_load_explicit(&s->job->bytes_per_s, memory_order_relaxed);
	bool moved;

	s->out_bytes = 0;
	moved = push(s);
	for (unsigned n = 0; n < TURN_CHUNKS && s->out_bytes < s->turn_bytes; n++) {
		if (!pack_room(&s->pack, s->flow->link->sent) ||
			!pace_ready(&s->pace, rate, cpu_cycles()))
			return moved;
		s->pack.pressure = pace_pressure(&s->pace, rate);
		while (!pack_next(s))
			if (!claim_next(s)) {
				if (claim_pass_over(s->job->claim, s->pass) &&
					pack_flush(&s->pack)) {
					moved |= push(s);
					if (pack_empty(&s->pack))
						moved |= send_barrier(s);
				}
				return moved;
			}
		moved = true;
		push(s);
		// What a codec made and the link does not take ends the turn, too: it can't leave
		// before the link is polled.
		if (s->pack.slots != NULL && !pack_empty(&s->pack))
			return true;
	}
	return moved;
}

bool send_turn(struct send *s)
{
	struct flow *f = s->flow;
	struct link *l = f->link;
	uint64_t t0 = cpu_cycles();
	bool moved = l->ops->poll(l) > 0;

	moved |= take_answers(s);
	if (moved)
		stats_add(&f->stats, STAT_cycles_send, cpu_cycles() - t0);
	if (l->error != 0) {
		flow_fail(f, l->error, "%s", l->why.text);
		return true;
	}
	if (atomic_load_explicit(&f->stop, memory_order_relaxed) ||
		atomic_load_explicit(&f->error, memory_order_relaxed) != 0)
		return moved;
	if (in_pass(s) && !s->barrier)
		moved |= send_chunks(s);
	return moved;
}
