// SPDX-License-Identifier: BSD-3-Clause
// Plays the daemon's part against a dirty source: look, arm windows of any size and place, read
// after arming, put some back. The copy must equal memory at the end, whatever the guest wrote
// when; and what is reported must be owed, as it was written, or put back, or begins as dirty.

#include "sim.h"

#include "bits.h"
#include "seed.h"
#include "source_fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sim {
	struct rig *r;
	struct seed rng;
	uint64_t npages, nchunks;
	uint32_t value;
	unsigned heat; /* writes at a step, at most */
	uint32_t *copy;
	uint64_t *set, *out, *in, *all;
	/* A report is owed: of the granule, of the page itself; and was given since it was. */
	uint64_t *owed, *own, *shown;
	uint64_t granule; /* pages */
	struct sim_tally *t;
	struct err *e;
};

static uint64_t pick(struct sim *s, uint64_t n)
{
	return seed_below(&s->rng, n);
}

/* The page is written, or put back: it may be reported until a look has shown it and it was armed.
 */
static void owe(struct sim *s, uint64_t page)
{
	uint64_t first = page - page % s->granule;

	bits_set(s->own, page);
	bits_set_range(s->owed, first, s->granule);
	bits_clear_range(s->shown, first, s->granule);
	s->t->causes++;
}

static void guest_writes(void *arg)
{
	struct sim *s = arg;

	for (unsigned n = s->heat ? (unsigned)pick(s, s->heat) : 0; n > 0; n--) {
		/* Half of them in a small hot set, and again and again the chunk in hand. */
		uint64_t page = pick(s, pick(s, 2) ? s->npages : 200);

		if (rig_page(s->r, page)) {
			owe(s, page);
			rig_write(s->r, page, ++s->value, (unsigned)pick(s, 2));
		}
	}
}

/* What a look returned of one chunk. What it says again of a page in hand costs nothing. */
static void judge(struct sim *s, uint64_t c, uint64_t bits)
{
	uint64_t fresh = bits & ~s->set[c];

	s->t->reported += bits_count(fresh);
	s->t->needless += bits_count(fresh & ~s->owed[c]);
	s->t->neighbours += bits_count(fresh & s->owed[c] & ~s->own[c]);
	s->shown[c] |= bits;
}

static int look(struct sim *s, int64_t *pages)
{
	*pages = s->r->source->ops->look(s->r->source, s->out, false, s->e);
	if (*pages < 0)
		return -1;
	for (uint64_t c = 0; c < s->nchunks; c++) {
		judge(s, c, s->out[c] & s->all[c]);
		s->set[c] |= s->out[c] & s->all[c];
		s->out[c] = 0;
	}
	return 0;
}

/* Armed: no report of it is owed any more, unless it is written again. */
static void settle(struct sim *s, uint64_t c, uint64_t bits)
{
	s->owed[c] &= ~bits;
	s->own[c] &= ~bits;
	s->shown[c] &= ~bits;
}

/* Arms one window and reads it, or puts some of it back. */
static int window(struct sim *s, uint64_t first, uint64_t n, unsigned sloppy)
{
	struct source *src = s->r->source;

	memset(s->in, 0, s->nchunks * sizeof(uint64_t));
	for (uint64_t c = 0; c < n; c++)
		s->in[c] = s->set[first + c] &
			   (sloppy ? seed_next(&s->rng) | seed_next(&s->rng) : ~UINT64_C(0));
	guest_writes(s);
	/* What no look has shown yet a source may still have to say. */
	for (uint64_t c = 0; c < n; c++)
		settle(s, first + c, s->in[c] & s->shown[first + c]);
	if (src->ops->arm(src, first, n, s->in, s->out + first, s->e) < 0)
		return -1;
	for (uint64_t c = 0; c < n; c++) {
		settle(s, first + c, s->out[first + c]);
		s->in[c] = (s->in[c] | s->out[first + c]) & s->all[first + c];
		s->out[first + c] = 0;
	}
	guest_writes(s);
	for (uint64_t c = 0; c < n; c++) {
		uint64_t back = sloppy ? seed_next(&s->rng) & seed_next(&s->rng) & s->in[c] : 0;
		uint64_t page = (first + c) * 64;

		s->set[first + c] &= ~s->in[c];
		for (unsigned b = 0; b < 64; b++) {
			if ((s->in[c] & ~back) >> b & 1)
				s->copy[page + b] = rig_read(s->r, page + b);
			if (back >> b & 1)
				owe(s, page + b);
		}
		s->in[c] = back;
	}
	src->ops->put_back(src, first, n, s->in);
	return 0;
}

static int play(struct sim *s)
{
	int64_t pages;

	for (unsigned step = 0; step < 60; step++) {
		uint64_t first = pick(s, s->nchunks);

		guest_writes(s);
		if (pick(s, 3) == 0 && look(s, &pages) < 0)
			return -1;
		if (window(s, first, 1 + pick(s, s->nchunks - first), 1) < 0)
			return -1;
	}
	/* Paused: one pass is enough. Huge granules may report their neighbours once more. */
	s->heat = 0;
	for (unsigned pass = 0; pass < (s->granule > 1 ? 4 : 1); pass++)
		if (look(s, &pages) < 0 || window(s, 0, s->nchunks, 0) < 0)
			return -1;
	return look(s, &s->t->quiet);
}

/* What the source says of itself: how finely it can tell pages apart, what it begins with. */
static void ask_source(struct sim *s)
{
	struct source_info info;

	s->r->source->ops->info(s->r->source, &info);
	s->granule = info.granule_bytes / PAGE_BYTES;
	if (!info.starts_all_dirty)
		return;
	memcpy(s->owed, s->all, s->nchunks * sizeof(uint64_t));
	memcpy(s->own, s->all, s->nchunks * sizeof(uint64_t));
}

int64_t sim_run(struct rig *r, uint64_t seed, struct sim_tally *t, struct err *e)
{
	struct sim s = {
		.r = r, .rng = {seed}, .nchunks = r->map.nchunks, .heat = 12, .t = t, .e = e};
	int64_t bad = 0;
	uint64_t *words;

	t->quiet = -1;
	s.npages = s.nchunks * 64;
	words = calloc(s.nchunks, 7 * sizeof(uint64_t));
	s.copy = calloc(s.npages, sizeof(*s.copy));
	s.set = words;
	s.out = s.set + s.nchunks;
	s.in = s.out + s.nchunks;
	s.all = s.in + s.nchunks;
	s.owed = s.all + s.nchunks;
	s.own = s.owed + s.nchunks;
	s.shown = s.own + s.nchunks;
	for (uint64_t p = 0; p < s.npages; p++)
		if (rig_page(r, p))
			bits_set(s.all, p);
	memcpy(s.set, s.all, s.nchunks * sizeof(uint64_t)); /* pass 0 */
	ask_source(&s);
	if (r->kind->ops == &source_fake)
		source_fake_step(r->source, guest_writes, &s);
	if (r->source->ops->start(r->source, e) < 0 || play(&s) < 0)
		bad = -1;
	for (uint64_t p = 0; bad >= 0 && p < s.npages; p++)
		if (bits_test(s.all, p) && s.copy[p] != rig_read(r, p))
			bad++;
	if (r->kind->ops == &source_fake)
		source_fake_step(r->source, NULL, NULL);
	if (r->source->ops->stop(r->source, e) < 0)
		bad = -1;
	free(words);
	free(s.copy);
	return bad;
}

bool sim_tally_good(const struct sim_tally *t, uint64_t granule_pages)
{
	return t->quiet == 0 && t->needless == 0 &&
	       t->neighbours <= (granule_pages - 1) * t->causes;
}

void sim_tally_print(const struct sim_tally *t)
{
	printf("%llu pages reported for %llu written or put back; %llu without need, %llu for a "
	       "neighbour; %lld of a quiet guest\n",
		(unsigned long long)t->reported, (unsigned long long)t->causes,
		(unsigned long long)t->needless, (unsigned long long)t->neighbours,
		(long long)t->quiet);
}
