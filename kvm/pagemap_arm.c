// SPDX-License-Identifier: BSD-3-Clause
// The arming of the dirty source "pagemap-scan"; run by the same thread.
// Invariant: what a protecting walk reports is in want, or goes to out, or to pending; nothing that
// the kernel re-protected is dropped.
// Absent huge pages are never protected by the walk itself: kernels hold a lock there that
// protecting takes again.

#include "pagemap_scan.h"

#include "bits.h"
#include "uffd.h"

#include <errno.h>
#include <stddef.h>

/* Written, and there. */
#define WRITTEN                                                                                    \
	.all = PAGEMAP_WRITTEN, .report = PAGEMAP_WRITTEN | PAGEMAP_PRESENT | PAGEMAP_SWAPPED
/* Not present. */
#define ABSENT                                                                                     \
	.inverted = PAGEMAP_PRESENT, .all = PAGEMAP_PRESENT,                                       \
	.report = PAGEMAP_WRITTEN | PAGEMAP_PRESENT | PAGEMAP_SWAPPED

struct arming {
	struct pagemap_scan *p;
	const struct region *r; /* of the run at hand */
	uint64_t addr;          /* where the walk's offset 0 is in the writer */
	uint64_t page;          /* the page that it is, through all regions */
	uint64_t first, n;      /* chunks of the range */
	const uint64_t *want;
	uint64_t *out;
	int64_t pages;
};

/* Reports that were consumed and that nobody asked for go to out, or to the next look. */
static void keep(struct arming *a, uint64_t chunk, uint64_t bits)
{
	uint64_t at = chunk - a->first;

	if (at >= a->n) {
		marks_or(&a->p->pending, chunk, bits);
		return;
	}
	bits &= ~a->want[at];
	if (bits == 0)
		return;
	a->pages += bits_count(bits & ~a->out[at]);
	a->out[at] |= bits;
}

static int arm_run(void *arg, uint64_t offset, uint64_t len, uint64_t state)
{
	struct arming *a = arg;
	uint64_t page = a->page + (offset >> PAGE_SHIFT);
	uint64_t end = page + (len >> PAGE_SHIFT);

	if ((state & PAGEMAP_WRITTEN) == 0) {
		int rc;

		if ((state & PAGEMAP_SWAPPED) != 0)
			return 0; /* protected already */
		/* Absent, and the scan left it so (hugetlb, or before Linux 6.18). What is written
		 * to it in between is read after this arming. */
		rc = uffd_protect(a->p->uffd, a->addr + offset, len);
		if (rc < 0)
			return rc;
	}
	while (page < end) {
		unsigned at = page % 64;
		unsigned n = end - page < 64 - at ? (unsigned)(end - page) : 64 - at;

		keep(a, page / 64, bits_low(n) << at);
		page += n;
	}
	return 0;
}

/* [from, to) of the region, as far as this mapping shows it. */
static int arm_mapping(struct arming *a, const struct attach_ram *m, uint64_t from, uint64_t to)
{
	const struct pagemap_query any = {PAGEMAP_SCAN_ANY, .protect = 1};
	const struct pagemap_query written = {WRITTEN, .protect = 1};
	const struct pagemap_query absent = {ABSENT};
	int rc;

	if (from < m->offset)
		from = m->offset;
	if (to > m->offset + m->bytes)
		to = m->offset + m->bytes;
	if (from >= to)
		return 0;
	a->addr = m->addr + (from - m->offset);
	a->page = a->r->first_chunk * CHUNK_PAGES + (from >> PAGE_SHIFT);
	if (a->r->page_bytes == PAGE_BYTES)
		return pagemap_walk(a->p->pm, &any, a->addr, to - from, arm_run, a);
	rc = pagemap_walk(a->p->pm, &written, a->addr, to - from, arm_run, a);
	return rc != 0 ? rc : pagemap_walk(a->p->pm, &absent, a->addr, to - from, arm_run, a);
}

/* Pages [start, start + len) of the range are wanted: protects them in each region they are of,
 * widened to whole granules, in each mapping that shows them. */
static int arm_wanted(void *arg, uint64_t start, uint64_t len)
{
	struct arming *a = arg;
	uint64_t page = a->first * CHUNK_PAGES + start;
	uint64_t end = page + len;

	while (page < end) {
		const struct region *r = region_of_chunk(a->p->c.map, page / CHUNK_PAGES);
		uint64_t zero, from, to;
		int rc = 0;

		if (r == NULL)
			return -EINVAL;
		a->r = r;
		zero = r->first_chunk * CHUNK_PAGES;
		from = (page - zero) << PAGE_SHIFT;
		to = (end - zero) << PAGE_SHIFT;
		page = zero + r->nchunks * CHUNK_PAGES;
		from -= from % r->page_bytes;
		to += (r->page_bytes - to % r->page_bytes) % r->page_bytes;
		if (to > r->bytes)
			to = r->bytes; /* bits past the region's end */
		for (unsigned i = 0; rc == 0 && i < a->p->n; i++)
			if (pagemap_scan_region(a->p, &a->p->ram[i]) == r)
				rc = arm_mapping(a, &a->p->ram[i], from, to);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int64_t pagemap_scan_arm(struct source *s, uint64_t first, uint64_t n, const uint64_t *want,
	uint64_t *out, struct err *e)
{
	struct pagemap_scan *p = (struct pagemap_scan *)s;
	struct arming a = {.p = p, .first = first, .n = n, .want = want, .out = out};
	int rc;

	marks_clear_words(&p->pending, first, n, want);
	rc = bits_runs(want, 0, n * CHUNK_PAGES, arm_wanted, &a);
	if (rc < 0)
		return err_sys(e, -rc, "region %s: cannot write-protect pages to be sent",
			a.r != NULL ? a.r->name : "?");
	return a.pages;
}
