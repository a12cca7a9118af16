// SPDX-License-Identifier: BSD-3-Clause
// The host's check of the guest's memory. Run by the main thread or the agent's, with all vCPUs
// stopped. Invariants: a hole is never read, as that would allocate it; the one page that a stopped
// vCPU may be in the middle of is allowed both its old and its new stamp, and no other page is.

#include "check.h"

#include "heap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct block *block_of(const struct memory *m, unsigned vcpu)
{
	return (const struct block *)(const void *)(m->base[LAYOUT_RAM] + GUEST_BLOCKS +
						    (uint64_t)vcpu * GUEST_PAGE);
}

const struct params *check_params(const struct memory *m, struct err *e)
{
	const struct params *p = (const void *)(m->base[LAYOUT_RAM] + GUEST_PARAMS);
	struct params want = *p;

	layout_params(&m->lay, &want);
	if (memcmp(p, &want, sizeof(want)) != 0 || p->content > IMAGE_MIX || p->populate > 100 ||
		p->batch == 0 || p->heap > 90 || p->balloon > p->heap || p->churn > 1000 ||
		p->share > 100 || p->pattern > PATTERN_HOT) {
		err_set(e, EPROTO,
			"the guest's parameter page is not what this memory layout needs: its "
			"memory did "
			"not come whole, or it comes from a guest of another size");
		return NULL;
	}
	return p;
}

uint64_t check_done(const struct memory *m)
{
	uint64_t n = 0;

	for (unsigned v = 0; v < m->lay.nvcpus; v++)
		n += block_of(m, v)->done;
	return n;
}

// A vCPU that was stopped anywhere may have written any part of this page's new stamp.
static bool being_stamped(
	const struct memory *m, const struct params *p, uint64_t i, uint64_t *next)
{
	for (unsigned v = 0; v < p->nvcpus; v++) {
		const struct block *b = block_of(m, v);

		if (b->cur_index == i && b->cur_count != 0) {
			*next = b->cur_count;
			return true;
		}
	}
	return false;
}

// Each field may be old or new: they are stored one by one.
static bool half_stamped(const struct params *p, const struct stamp *s, uint64_t gpa, uint64_t next)
{
	uint64_t old = next - 1;

	if (old == 0)
		return true;
	return s->gpa == gpa && (s->count == old || s->count == next) &&
	       (s->sum == stamp_sum(p, gpa, old) || s->sum == stamp_sum(p, gpa, next));
}

struct walk {
	const struct memory *m;
	const struct params *p;
	struct check_result *res;
	struct extent extent[LAYOUT_FILES];
	struct image im;
	struct image_run runs[IMAGE_RUNS];
	uint64_t plan; /* block that runs[] is for */
	unsigned nruns, at;
};

static void bad(struct walk *w, uint64_t gpa, const char *fmt, uint64_t want, const struct stamp *s)
{
	if (w->res->bad++ == 0) {
		w->res->bad_gpa = gpa;
		snprintf(w->res->why, sizeof(w->res->why), fmt, (unsigned long long)want,
			s != NULL ? (unsigned long long)s->count : 0);
	}
}

static const struct image_run *run_of(struct walk *w, uint64_t page)
{
	if (w->nruns == 0 || w->plan != page / IMAGE_BLOCK) {
		w->plan = page / IMAGE_BLOCK;
		w->nruns = image_plan(&w->im, w->plan, w->runs);
		w->at = 0;
	}
	while (w->runs[w->at].first > page)
		w->at--;
	while (w->runs[w->at].first + w->runs[w->at].pages <= page)
		w->at++;
	return &w->runs[w->at];
}

// Content beside the stamps. stamped: head and tail are not the image's.
static bool body_good(struct walk *w, unsigned file, uint64_t offset, bool stamped)
{
	uint64_t page = memory_image_page(&w->m->lay, file, offset);
	const struct image_run *run = run_of(w, page);
	enum image_class c = run->hole ? IMAGE_ZERO : run->class;
	uint32_t skip = stamped ? (uint32_t)sizeof(struct stamp) : 0;
	uint8_t want[GUEST_PAGE];

	if (!stamped && c == IMAGE_ZERO && !extent_has(&w->extent[file], offset))
		return true; // a hole reads as zeros
	image_page(c, w->im.seed, page, want);
	return memcmp(w->m->base[file] + offset + skip, want + skip, GUEST_PAGE - 2 * skip) == 0;
}

/* A free page holds zeros, or the poison: where stamps would be, or everywhere. */
static void check_free(struct walk *w, uint64_t gpa, unsigned file, uint64_t offset, bool deep)
{
	const char *page = (const char *)w->m->base[file] + offset;
	uint32_t part = deep ? GUEST_PAGE : (uint32_t)sizeof(struct stamp), value = w->p->poison;
	bool good;

	if (!extent_has(&w->extent[file], offset))
		good = value == 0; /* a hole */
	else
		good = heap_holds(page, part, value) &&
		       heap_holds(page + GUEST_PAGE - part, part, value);
	if (good)
		w->res->ok++;
	else
		bad(w, gpa, "a free page does not hold what it did when it was given up", 0, NULL);
}

/* Was used, or may be: what it holds beside its stamps is not the image any more. */
static bool in_heap(const struct params *p, uint64_t i)
{
	struct loop l;

	for (unsigned v = 0; v < p->nvcpus; v++) {
		loop_init(&l, p, v);
		if (i - l.heap_first < l.heap_n)
			return true;
	}
	return false;
}

static void check_page(struct walk *w, uint64_t i, uint64_t count, bool deep)
{
	uint64_t gpa = guest_gpa(w->p, i), next = 0, offset, sum;
	const struct stamp *head, *tail;
	const uint8_t *page;
	unsigned file;
	bool half;

	if (layout_find(&w->m->lay, gpa, &file, &offset) < 0)
		return;
	if (count >= HEAP_STATES) {
		if (count == HEAP_FREE)
			check_free(w, gpa, file, offset, deep);
		return;
	}
	half = being_stamped(w->m, w->p, i, &next) && (count == next || count + 1 == next);
	if (count == 0 && !half) {
		if (!deep)
			return;
		if (body_good(w, file, offset, false))
			w->res->ok++;
		else
			bad(w, gpa, "never stamped, content changed", 0, NULL);
		return;
	}
	page = w->m->base[file] + offset;
	head = (const void *)(page + STAMP_HEAD);
	tail = (const void *)(page + STAMP_TAIL);
	sum = stamp_sum(w->p, gpa, count);
	if (half && (!half_stamped(w->p, head, gpa, next) || !half_stamped(w->p, tail, gpa, next)))
		bad(w, gpa, "being stamped: count %llu, its head has %llu", next, head);
	else if (!half && !stamp_is(head, gpa, count, sum))
		bad(w, gpa, "expected count %llu, its head has %llu", count, head);
	else if (!half && !stamp_is(tail, gpa, count, sum))
		bad(w, gpa, "expected count %llu, its tail has %llu", count, tail);
	else if (deep && !in_heap(w->p, i) && !body_good(w, file, offset, true))
		bad(w, gpa, "count %llu is right, content beside the stamps changed", count, NULL);
	else
		w->res->ok++;
}

int check_memory(const struct memory *m, bool deep, struct check_result *res, struct err *e)
{
	struct walk w = {.m = m, .res = res};
	const uint32_t *table = (const void *)(m->base[LAYOUT_RAM] + m->lay.table_gpa);
	struct extent x;

	memset(res, 0, sizeof(*res));
	w.p = check_params(m, e);
	if (w.p == NULL)
		return -EPROTO;
	w.im = (struct image){w.p->content, w.p->seed, w.p->populate};
	extent_init(&x, m, LAYOUT_RAM);
	for (unsigned f = 0; f < LAYOUT_FILES; f++)
		extent_init(&w.extent[f], m, f);
	for (uint64_t i = 0; i < w.p->n_total; i++) {
		uint64_t at = m->lay.table_gpa + i * sizeof(*table);

		// A hole in the table: nothing there was ever stamped.
		check_page(&w, i, extent_has(&x, at) ? table[i] : 0, deep);
	}
	return 0;
}
