// SPDX-License-Identifier: BSD-3-Clause
// Windows of a pass: asked for, taken when they are armed, cut into spans, published. Run by the
// control loop. What it walks is the lines of words that were ever touched; but arming may bring up
// any page of its range, so OUT is read whole.

#include "pass.h"

#include "bits.h"
#include "clock.h"
#include "plant.h"

#include <stddef.h>

/* Hands armed spans to the flows as far as their queues have room. */
void pass_publish(struct pass *p)
{
	while (p->span_head != p->span_tail) {
		struct span *s = &p->spans[p->span_head % PASS_SPANS];
		int node = p->map->r[s->region].node;

		if (claim_publish(p->claim, node < 0 ? 0 : (unsigned)node, s, 1) == 0)
			return;
		p->span_head++;
	}
}

/* Turns the taken words of [first, end) of one region into spans. */
static void make_spans(struct pass *p, unsigned region, uint64_t first, uint64_t end)
{
	uint64_t base = p->map->r[region].first_chunk;
	struct dirty *d = p->dirty;

	for (uint64_t c = first; c < end;) {
		struct span s = {.region = (uint16_t)region};
		uint64_t group;

		c = dirty_touched(d, c, end);
		while (c < end && (d->taken[c] | d->hole[c]) == 0)
			c = dirty_after(d, c, end);
		if (c == end)
			return;
		s.chunk = c;
		/* Of the region, so that a group never ends inside a large backing page. */
		group = c + SPAN_CHUNKS - (c - base) % SPAN_CHUNKS;
		for (; c < end && c < group; c++) {
			if ((d->taken[c] | d->hole[c]) == 0)
				continue;
			s.nchunks = (uint16_t)(c - s.chunk + 1);
			s.holes |= d->hole[c] != 0;
		}
		p->spans[p->span_tail++ % PASS_SPANS] = s;
	}
}

static void take_chunk(struct pass *p, const struct region *r, uint64_t c)
{
	uint64_t also = p->out[c] & region_chunk_mask(r, c - r->first_chunk);

	if (p->out[c] != 0)
		p->out[c] = 0;
	if (p->in[c] != 0)
		p->in[c] = 0;
	if ((p->dirty->set[c] | also) != 0)
		dirty_take(p->dirty, c, also);
	if (p->x != NULL)
		exclude_send(p->x, c, also);
	/* A hole that was filled since the look, its report consumed by this arming. */
	if ((p->dirty->hole[c] & p->dirty->taken[c]) != 0)
		p->dirty->hole[c] &= ~p->dirty->taken[c];
}

/* Where nothing was touched, arming may still have brought something up. */
static bool quiet(const struct pass *p, uint64_t from, uint64_t to)
{
	uint64_t any = 0;

	if (dirty_touched(p->dirty, from, to) != to)
		return false;
	for (; from < to; from++)
		any |= p->out[from];
	return any == 0;
}

void pass_take_window(struct pass *p, uint64_t first, uint64_t n)
{
	struct region *r = region_of_chunk(p->map, first);

	for (uint64_t c = first, next; c < first + n; c = next) {
		next = (c / DIRTY_GROUP + 1) * DIRTY_GROUP;
		if (next > first + n)
			next = first + n;
		if (!quiet(p, c, next))
			for (; c < next; c++)
				take_chunk(p, r, c);
	}
	make_spans(p, (unsigned)(r - p->map->r), first, first + n);
}

/* Pages that are armed together. What is armed can't be left out any more, so while the guest may
 * still tell what is free, little is taken at a time. */
uint64_t pass_window_pages(const struct pass *p)
{
	return p->free_id != 0 && !p->free_ended ? p->free_window_pages : PASS_WINDOW_PAGES;
}

/* Asks to arm the next window. False when nothing is left. A window stays in one region. */
bool pass_ask_window(struct pass *p)
{
	struct dirty *d = p->dirty;
	uint64_t first = dirty_next(d, p->cursor, d->nchunks);
	struct region *r = region_of_chunk(p->map, first);
	uint64_t end, limit, last = first, pages = 0;

	if (r == NULL) {
		p->cursor = d->nchunks;
		return false;
	}
	limit = r->first_chunk + r->nchunks;
	if (limit > first + PASS_WINDOW_CHUNKS)
		limit = first + PASS_WINDOW_CHUNKS;
	for (end = first; end < limit && pages < pass_window_pages(p);
		end = dirty_after(d, end, limit)) {
		pages += bits_count(d->set[end] | d->hole[end]);
		if (d->set[end] != 0)
			p->in[end] = d->set[end];
		if ((d->set[end] | d->hole[end]) != 0)
			last = end + 1;
	}
	for (; plant(PLANT_LAW12_ARM_ALL) && last < limit; last++)
		p->in[last] = region_chunk_mask(r, last - r->first_chunk);
	end = last; /* a sparse window costs what is in it */
	if (p->arming++ == 0)
		p->arm_began = clock_ns();
	p->cursor = end;
	p->facts.windows += !p->prearm;
	if (plant(PLANT_LAW1_READ_BEFORE_ARM) && !p->prearm) {
		pass_take_window(p, first, end - first);
		pass_publish(p);
	}
	p->io->arm(p->io_arg, first, end - first);
	return true;
}
