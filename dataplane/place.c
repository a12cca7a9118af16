// SPDX-License-Identifier: BSD-3-Clause
// Writes guest memory at the target. Run by polling cores; the flow that owns a chunk in this pass
// is the only one that touches its pages and its word of `written`.
//
// Invariants: a bit of `stale` is a bit of `written`, and is cleared by the first frame that speaks
// of its page; a page whose bit of `written` is clear holds zeros, or is a hole, and is never
// written with zeros (law 11); a bit is set before its page is written and cleared only when its
// hole was queued, so a frame that is taken up again repeats nothing that is done. Holes of one
// pass are made before its barrier is answered, so no later content can meet an earlier hole.

#include "place.h"

#include "bits.h"
#include "copy.h"
#include "fresh.h"
#include "punch.h"
#include "zero.h"

// What one call does at most, so that other flows of this core get their turn: chunks looked at,
// and pages looked at for zeros or written with them.
#define PLACE_LOOK_CHUNKS 65536u
#define PLACE_ZERO_PAGES  1024u

struct place {
	struct recv_job *job;
	const struct region *region;
	uint16_t index;    // of the region
	uint64_t *written; // of the region's first chunk
	uint64_t *stale;
	uint64_t *later; // of a region whose memory a device writes; else NULL
};

static void spoken_of(const struct place *p, uint32_t chunk, uint64_t mask)
{
	if ((p->stale[chunk] & mask) != 0)
		p->stale[chunk] &= ~mask;
	if (p->later != NULL && (p->later[chunk] & mask) != 0)
		p->later[chunk] &= ~mask;
}

// The pages are in their place already.
static void placed_data(const struct place *p, uint32_t chunk, uint64_t mask)
{
	if ((mask & ~p->written[chunk]) != 0)
		p->written[chunk] |= mask;
	spoken_of(p, chunk, mask);
}

static void place_data(const struct place *p, uint32_t chunk, uint64_t mask, const uint8_t *pages)
{
	uint64_t at = (uint64_t)chunk << CHUNK_SHIFT;
	uint64_t fresh = mask & ~p->written[chunk];

	if (fresh != 0)
		p->written[chunk] |= mask;
	spoken_of(p, chunk, mask);
	while (mask != 0) {
		bool first_is_fresh = (fresh & mask & -mask) != 0;
		unsigned first;
		unsigned n = bits_run(mask & (first_is_fresh ? fresh : ~fresh), &first);
		uint64_t offset = at + first * PAGE_BYTES;

		if (!first_is_fresh ||
			!fresh_write(p->region, offset, pages, n * PAGE_BYTES, p->job->alone))
			copy_out(p->region->base + offset, pages, n * PAGE_BYTES);
		pages += n * PAGE_BYTES;
		mask &= ~bits_mask(first, n);
	}
}

// Zeros over old content; fresh pages are zeros already, and memory that was allocated ahead mostly
// is: to look costs a tenth of writing there. The bits stay: the page is still memory that a later
// hole must give back. Returns pages looked at.
static unsigned place_zeros(const struct place *p, uint32_t chunk, uint64_t mask)
{
	uint64_t at = (uint64_t)chunk << CHUNK_SHIFT;
	uint64_t rest = mask & p->written[chunk], stale = p->stale[chunk];
	unsigned pages = bits_count(rest);

	if ((stale & rest) != 0)
		rest &= ~zero_scan(p->region->base + at, stale & rest);
	while (rest != 0) {
		unsigned first;
		unsigned n = bits_run(rest, &first);

		copy_out_zeros(p->region->base + at + first * PAGE_BYTES, n * PAGE_BYTES);
		rest &= ~bits_mask(first, n);
	}
	spoken_of(p, chunk, mask);
	return pages;
}

// While a device may write this memory, a hole would leave it with pages that are the file's no
// more: until it lets go, a hole is zeros. Returns pages looked at.
static unsigned place_holes_later(const struct place *p, uint32_t chunk, uint64_t mask)
{
	unsigned pages = place_zeros(p, chunk, mask);

	p->later[chunk] |= mask & p->written[chunk];
	return pages;
}

struct holes {
	const struct place *p;
	uint32_t chunk;
};

static int hole_run(void *arg, uint64_t first, uint64_t n)
{
	const struct holes *h = arg;
	uint64_t run = bits_mask((unsigned)first, (unsigned)n);

	if (!punch_queue(
		    h->p->job->punch, h->p->index, (uint64_t)h->chunk * CHUNK_PAGES + first, n))
		return 1;
	h->p->written[h->chunk] &= ~run;
	spoken_of(h->p, h->chunk, run);
	return 0;
}

// Queues the holes of one chunk; false when the queue is full.
static bool place_holes(const struct place *p, uint32_t chunk, uint64_t mask)
{
	struct holes h = {p, chunk};

	if (p->later != NULL) {
		place_holes_later(p, chunk, mask);
		return true;
	}
	mask &= p->written[chunk];
	return mask == 0 || bits_runs(&mask, 0, CHUNK_PAGES, hole_run, &h) == 0;
}

static bool place_zero_run(const struct place *p, const struct frame *f, uint32_t *at)
{
	bool holes = f->type == FRAME_HOLE;
	unsigned pages = 0;
	uint32_t looked = 0;

	while (*at < f->chunks) {
		if (pages >= PLACE_ZERO_PAGES || looked++ == PLACE_LOOK_CHUNKS)
			return false;
		pages += (holes ? place_holes_later : place_zeros)(
			p, f->chunk + (*at)++, ~UINT64_C(0));
	}
	return true;
}

// Runs of chunks that hold anything become one hole each. Where the backing pages are larger than a
// chunk, a run is widened to whole ones as far as the frame reaches, so that they can be given
// back.
static bool place_hole_run(const struct place *p, const struct frame *f, uint32_t *at)
{
	const struct region *r = p->region;
	uint64_t step = r->page_bytes > CHUNK_BYTES ? r->page_bytes / CHUNK_BYTES : 1;
	uint64_t end = (uint64_t)f->chunk + f->chunks;
	uint64_t c = (uint64_t)f->chunk + *at;
	uint32_t looked = 0;

	while (c < end) {
		uint64_t from, to, last;

		if (looked++ == PLACE_LOOK_CHUNKS)
			break;
		if (p->written[c] == 0) {
			c++;
			continue;
		}
		from = c - c % step < f->chunk ? f->chunk : c - c % step;
		to = c;
		while (to < end && p->written[to] != 0)
			to++;
		to = (to + step - 1) / step * step;
		to = to > end ? end : to;
		last = to * CHUNK_PAGES;
		if (last > r->bytes >> PAGE_SHIFT)
			last = r->bytes >> PAGE_SHIFT;
		if (!punch_queue(
			    p->job->punch, p->index, from * CHUNK_PAGES, last - from * CHUNK_PAGES))
			break;
		bits_clear_range(p->written, c * CHUNK_PAGES, last - c * CHUNK_PAGES);
		if (p->job->kept[p->index])
			bits_clear_range(p->stale, c * CHUNK_PAGES, last - c * CHUNK_PAGES);
		c = to;
	}
	*at = (uint32_t)(c - f->chunk);
	return c == end;
}

bool place_frame(struct recv_job *job, const struct frame *f, const uint8_t *pages, uint32_t *at)
{
	struct place p = {
		.job = job,
		.region = &job->map->r[f->region],
		.index = f->region,
		.written = job->written + job->map->r[f->region].first_chunk,
		.stale = job->stale + job->map->r[f->region].first_chunk,
	};
	bool all = true;

	if (job->later != NULL && job->pinned[f->region])
		p.later = job->later + p.region->first_chunk;
	switch (f->type) {
	case FRAME_ZERO:
		all = place_zero_run(&p, f, at);
		break;
	case FRAME_HOLE:
		all = p.later != NULL ? place_zero_run(&p, f, at) : place_hole_run(&p, f, at);
		break;
	case FRAME_CHUNK:
		// Holes first: they alone can be refused, and what is then done again costs
		// nothing.
		if (!place_holes(&p, f->chunk, f->hole))
			return false;
		if (f->data != 0 && pages != NULL)
			place_data(&p, f->chunk, f->data, pages);
		else if (f->data != 0)
			placed_data(&p, f->chunk, f->data);
		place_zeros(&p, f->chunk, f->zero);
		break;
	default:
		break;
	}
	copy_out_done();
	return all;
}
