// SPDX-License-Identifier: BSD-3-Clause
// One pass over the dirty set at the source. Run by the control loop; it touches words of the
// planes, never a page. Windows are armed at most PASS_WINDOWS ahead of the flows, so that a page
// is read soon after it was re-protected.

#include "pass.h"

#include "bits.h"
#include "map.h"
#include "plant.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int pass_init(struct pass *p, struct region_map *map, struct dirty *d, struct claim *c,
	uint64_t *out, uint64_t *in, int planes_fd, const struct pass_io *io, void *io_arg)
{
	memset(p, 0, sizeof(*p));
	p->map = map;
	p->dirty = d;
	p->claim = c;
	p->out = out;
	p->in = in;
	p->planes_fd = planes_fd;
	p->free_window_pages = PASS_FREE_PAGES;
	p->free_rest_ns = PASS_FREE_REST_NS;
	p->io = io;
	p->io_arg = io_arg;
	p->populated = map_lazy(map->nchunks * sizeof(uint64_t));
	p->spans = calloc(PASS_SPANS, sizeof(*p->spans));
	if (p->populated == NULL || p->spans == NULL) {
		pass_fini(p);
		return -ENOMEM;
	}
	return 0;
}

void pass_fini(struct pass *p)
{
	if (p->map != NULL)
		map_free(p->populated, p->map->nchunks * sizeof(uint64_t));
	free(p->spans);
	p->populated = NULL;
	p->spans = NULL;
}

void pass_fail(struct pass *p, const struct err *why)
{
	p->why = *why;
	p->state = PASS_FAILED;
}

void pass_begin(struct pass *p, uint32_t number, enum pass_kind kind)
{
	p->facts = (struct pass_facts){.number = number, .kind = kind};
	p->state = PASS_LOOKING;
	p->look_began = clock_ns();
	p->io->look(p->io_arg, kind != PASS_LIVE);
}

/* Takes the words that the source wrote to OUT in one range of chunks, and gives them back as
 * zeros. */
static void take_out_range(void *arg, uint64_t first, uint64_t end)
{
	struct pass *p = arg;

	for (unsigned i = 0; i < p->map->n; i++) {
		struct region *r = &p->map->r[i];
		uint64_t from = first > r->first_chunk ? first : r->first_chunk;
		uint64_t to = r->first_chunk + r->nchunks;

		if (to > end)
			to = end;
		for (uint64_t c = from; c < to; c++) {
			uint64_t w = p->out[c];

			if (w == 0)
				continue;
			p->out[c] = 0;
			w &= region_chunk_mask(r, c - r->first_chunk);
			dirty_or(p->dirty, c, &w, 1);
			if (p->x != NULL)
				exclude_send(p->x, c, w);
		}
	}
}

/* An idle terabyte costs two system calls here. */
void pass_take_out(struct pass *p)
{
	map_runs(p->planes_fd, 0, p->map->nchunks, take_out_range, p);
}

/* The one exclusion step, law 11 and 4: what is in the balloon counts as a hole, and is dirty again
 * before the guest uses it. Pages that are holes now are not sent: their report stays with the
 * source, which was not armed, or, if they had been put back, they have no content any more. Those
 * that the target may hold content for become holes there. Returns how many pages are no holes. */
static uint64_t follow_holes(struct pass *p)
{
	struct dirty *d = p->dirty;
	const struct region *r = NULL;
	uint64_t there = 0;

	for (uint64_t c = dirty_touched(d, 0, d->nchunks); c < d->nchunks;
		c = dirty_after(d, c, d->nchunks)) {
		uint64_t pop = p->populated[c], gone, holes, in;

		if ((pop | d->set[c] | d->held[c] | d->hole[c]) == 0)
			continue; /* most, where dirty pages are far between */
		if (p->x != NULL) {
			if (r == NULL || c - r->first_chunk >= r->nchunks)
				r = region_of_chunk(p->map, c);
			in = pop & exclude_balloon(p->x, r, c);
			there += bits_count(in);
			p->facts.balloon_pages += bits_count(in);
			pop &= ~in;
		}
		there += bits_count(pop);
		gone = d->set[c] & ~pop;
		holes = d->held[c] & ~pop;
		/* Law 3: pages that are there and left out as free, whose hole has not arrived. */
		if (p->x != NULL)
			holes |= d->held[c] & p->x->free[c];
		if (!p->first_done) {
			if (d->set[c] != pop)
				d->set[c] = pop;
		} else if (gone != 0) {
			d->set[c] &= pop;
		}
		if (plant(PLANT_LAW11_NO_NEW_HOLES))
			holes = 0;
		if (d->hole[c] != holes)
			d->hole[c] = holes;
		p->facts.hole_pages += bits_count(holes);
		p->facts.dirty_pages += bits_count(d->set[c]);
		if (p->populated[c] != 0)
			p->populated[c] = 0;
	}
	return there;
}

struct found {
	struct pass *p;
	const struct region *r;
};

static int on_populated(void *arg, uint64_t offset, uint64_t bytes)
{
	struct found *f = arg;
	uint64_t first = f->r->first_chunk * CHUNK_PAGES;

	if (offset >= f->r->bytes)
		return 0; /* a file may be larger than its region */
	if (bytes > f->r->bytes - offset)
		bytes = f->r->bytes - offset;
	if (bytes < PAGE_BYTES)
		return 0;
	dirty_touch(f->p->dirty, f->r->first_chunk + (offset >> CHUNK_SHIFT),
		((offset + bytes - 1) >> CHUNK_SHIFT) - (offset >> CHUNK_SHIFT) + 1);
	bits_set_range(f->p->populated, first + (offset >> PAGE_SHIFT), bytes >> PAGE_SHIFT);
	return 0;
}

void pass_looked(struct pass *p, int status, const struct err *why)
{
	uint64_t t0 = clock_ns(), pages = 0, there;
	struct err e;

	if (p->state != PASS_LOOKING)
		return;
	if (status < 0) {
		pass_fail(p, why);
		return;
	}
	p->facts.look_ns = t0 - p->look_began;
	pass_take_out(p);
	p->facts.walk_ns = clock_ns() - t0;

	t0 = clock_ns();
	for (unsigned i = 0; i < p->map->n; i++) {
		struct region *r = &p->map->r[i];
		struct found f = {p, r};

		if (p->io->populated(p->io_arg, r, on_populated, &f, &e) < 0) {
			pass_fail(p, &e);
			return;
		}
		pages += r->bytes >> PAGE_SHIFT;
	}
	p->facts.hole_ns = clock_ns() - t0;

	t0 = clock_ns();
	if (p->x != NULL)
		exclude_look(p->x);
	there = follow_holes(p);
	if (!p->first_done)
		p->facts.skipped_pages = pages - there;
	p->first_done = true;
	p->facts.walk_ns += clock_ns() - t0;
	p->state = PASS_LOOKED;
}

void pass_go(struct pass *p)
{
	p->cursor = 0;
	p->arming = 0;
	p->span_head = p->span_tail = 0;
	p->free_asking = p->free_ended = false;
	p->prearm = p->facts.number == 0 && p->x != NULL && p->x->ask_free;
	p->state = PASS_RUNNING;
	pass_poll(p);
}

void pass_armed(struct pass *p, uint64_t first, uint64_t n, int status, const struct err *why)
{
	uint64_t now = clock_ns();

	if (p->state != PASS_RUNNING)
		return;
	if (status < 0) {
		pass_fail(p, why);
		return;
	}
	p->facts.arm_ns += now - p->arm_began;
	p->arm_began = now;
	p->arming--;
	if (p->prearm) {
		memset(p->in + first, 0, n * sizeof(*p->in));
		take_out_range(p, first, first + n);
		return;
	}
	pass_take_window(p, first, n);
	pass_publish(p);
}

static void poll_prearm(struct pass *p)
{
	while (p->arming < PASS_WINDOWS && pass_ask_window(p))
		;
	if (p->cursor == p->dirty->nchunks && p->arming == 0)
		pass_free_ask(p);
}

void pass_poll(struct pass *p)
{
	if (p->state != PASS_RUNNING)
		return;
	if (p->prearm)
		poll_prearm(p);
	if (p->prearm)
		return;
	pass_publish(p);
	pass_free_poll(p);
	/* Room for every window that is under way is kept free, so pass_armed() always has it; and
	 * no more is armed than the flows will soon read. */
	while (p->arming + (p->span_tail - p->span_head + PASS_WINDOW_SPANS - 1) /
					PASS_WINDOW_SPANS <
			PASS_WINDOWS &&
		claim_backlog(p->claim) <=
			PASS_WINDOWS * pass_window_pages(p) / (CHUNK_PAGES * SPAN_CHUNKS) &&
		pass_ask_window(p))
		;
	if (p->cursor == p->dirty->nchunks && p->arming == 0 && p->span_head == p->span_tail) {
		claim_close_pass(p->claim, p->facts.number);
		p->state = PASS_PUBLISHED;
	}
}

uint64_t pass_close(struct pass *p)
{
	p->facts.back_pages = dirty_put_back(p->dirty, 0, p->dirty->nchunks);
	p->state = PASS_IDLE;
	pass_free_close(p);
	return p->facts.back_pages;
}

const char *pass_kind_name(enum pass_kind k)
{
	static const char *const names[] = {"live", "last", "late"};

	return names[k];
}
