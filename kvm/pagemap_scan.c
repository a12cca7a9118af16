// SPDX-License-Identifier: BSD-3-Clause
// Dirty source "pagemap-scan": write-protection by userfaultfd in asynchronous mode, read and set
// by PAGEMAP_SCAN. Run by the agent's thread inside the VMM's process, over the mappings that the
// VMM gave (region.base); other mappings and pinned pages are not seen (law 2).
//
// A page is written if its entry is not write-protected. An entry that is absent (never touched, or
// zapped, and since Linux 6.14 whole page tables go with the last entry) says nothing: such a page
// is reported where the file has data. Arming leaves markers in absent entries, so that they are
// not reported again (hugetlbfs can't tell its holes: there all is reported until it was armed).
// Invariant: what a protecting walk reports is in want, or goes to out, or to pending; nothing that
// the kernel re-protected is dropped.

#include "pagemap_scan.h"

#include "bits.h"
#include "hole.h"
#include "marks.h"
#include "pagemap.h"
#include "uffd.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/vfs.h>

/* Written or not present; told with what they are. */
#define ANY                                                                                        \
	.inverted = PAGEMAP_PRESENT, .any = PAGEMAP_PRESENT | PAGEMAP_WRITTEN,                     \
	.report = PAGEMAP_WRITTEN | PAGEMAP_PRESENT | PAGEMAP_SWAPPED

struct pagemap_scan {
	struct source source;
	struct source_config c;
	int uffd; /* -1: stopped */
	int pm;
	uint64_t granule_bytes;
	struct marks pending; /* put back, or consumed outside of the armed range */
};

int pagemap_scan_make(struct source **s, const struct source_config *c, struct err *e)
{
	struct pagemap_scan *p = calloc(1, sizeof(*p));

	if (p == NULL || marks_init(&p->pending, c->map->nchunks) < 0) {
		free(p);
		return err_set(e, ENOMEM, "out of memory");
	}
	p->source.ops = &source_pagemap_scan;
	p->c = *c;
	p->uffd = -1;
	p->granule_bytes = PAGE_BYTES;
	for (unsigned i = 0; i < c->map->n; i++)
		if (c->map->r[i].page_bytes > p->granule_bytes)
			p->granule_bytes = c->map->r[i].page_bytes;
	*s = &p->source;
	p->pm = pagemap_open();
	if (p->pm < 0)
		return err_sys(e, -p->pm, "cannot open /proc/self/pagemap; is /proc mounted?");
	return 0;
}

/* What the region says of itself must fit what it is, as far as arming relies on it. */
static int check_region(const struct region *r, struct err *e)
{
	struct statfs fs;

	if (r->base == NULL)
		return err_set(e, EINVAL, "region %s is not mapped", r->name);
	if (fstatfs(r->fd, &fs) < 0)
		return err_sys(e, errno, "region %s: cannot look at its file", r->name);
	if ((uint64_t)fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)fs.f_bsize != r->page_bytes
						   : r->page_bytes != PAGE_BYTES)
		return err_set(e, EINVAL,
			"region %s is said to be backed by pages of %u bytes, and is not", r->name,
			r->page_bytes);
	if (r->bytes % r->page_bytes != 0)
		return err_set(
			e, EINVAL, "region %s: its size is no multiple of its page", r->name);
	if (r->page_bytes > 2u << 20)
		return err_set(e, ENOTSUP,
			"region %s: pagemap-scan can't tell writes apart in pages of 1 GiB; use "
			"2 MiB or 4 KiB pages, or kvm-log",
			r->name);
	return 0;
}

static int pagemap_scan_open(struct source **s, const struct source_config *c, struct err *e)
{
	unsigned tested = 0;
	int rc = 0;

	*s = NULL;
	for (unsigned i = 0; rc == 0 && i < c->map->n; i++) {
		const struct region *r = &c->map->r[i];
		unsigned kind = r->page_bytes == PAGE_BYTES ? 1 : 2;

		rc = check_region(r, e);
		if (rc < 0 || (tested & kind) != 0)
			continue;
		tested |= kind;
		rc = pagemap_selftest(r->page_bytes, e);
	}
	if (rc < 0)
		return rc;
	rc = pagemap_scan_make(s, c, e);
	/* Whether these very mappings can be tracked. */
	if (rc == 0)
		rc = source_pagemap_scan.start(*s, e);
	if (rc == 0)
		rc = source_pagemap_scan.stop(*s, e);
	if (rc < 0) {
		source_pagemap_scan.close(*s);
		*s = NULL;
	}
	return rc;
}

static void pagemap_scan_info(const struct source *s, struct source_info *info)
{
	info->granule_bytes = ((const struct pagemap_scan *)s)->granule_bytes;
	info->writers = SOURCE_SEES_VCPU | SOURCE_SEES_THREADS;
	info->starts_all_dirty = true;
	info->mode = "userfaultfd";
}

static int pagemap_scan_start(struct source *s, struct err *e)
{
	struct pagemap_scan *p = (struct pagemap_scan *)s;

	if (p->uffd >= 0)
		return 0;
	p->uffd = uffd_open();
	if (p->uffd < 0)
		return err_sys(e, -p->uffd,
			"cannot track writes by userfaultfd; it takes Linux 6.7 and permission "
			"(access to /dev/userfaultfd)");
	for (unsigned i = 0; i < p->c.map->n; i++) {
		const struct region *r = &p->c.map->r[i];
		int rc = uffd_track(p->uffd, r->base, r->bytes);

		if (rc < 0) {
			s->ops->stop(s, NULL);
			return err_sys(e, -rc,
				"region %s: userfaultfd can't track its mapping (EINVAL: not a "
				"memfd, tmpfs or hugetlbfs file; EBUSY: tracked already)",
				r->name);
		}
	}
	return 0;
}

struct looking {
	const struct region *r;
	uint64_t *out; /* the region's words */
	int64_t pages;
};

static int show(void *arg, uint64_t offset, uint64_t len)
{
	struct looking *l = arg;
	uint64_t page = offset >> PAGE_SHIFT;
	uint64_t end = page + (len >> PAGE_SHIFT);

	while (page < end) {
		unsigned at = page % 64;
		unsigned n = end - page < 64 - at ? (unsigned)(end - page) : 64 - at;
		uint64_t bits = bits_low(n) << at;

		l->pages += bits_count(bits & ~l->out[page / 64]);
		l->out[page / 64] |= bits;
		page += n;
	}
	return 0;
}

static int look_run(void *arg, uint64_t offset, uint64_t len, uint64_t state)
{
	struct looking *l = arg;

	if ((state & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) == 0)
		return hole_walk_range(l->r->fd, offset, len, show, l);
	return (state & PAGEMAP_WRITTEN) != 0 ? show(l, offset, len) : 0;
}

static int64_t pagemap_scan_look(struct source *s, uint64_t *out, bool last, struct err *e)
{
	const struct pagemap_query q = {ANY};
	struct pagemap_scan *p = (struct pagemap_scan *)s;
	int64_t pages = marks_show(&p->pending, out);

	(void)last; /* every look covers all */
	for (unsigned i = 0; i < p->c.map->n; i++) {
		const struct region *r = &p->c.map->r[i];
		struct looking l = {r, out + r->first_chunk, 0};
		int rc = pagemap_walk(p->pm, &q, r->base, r->bytes, look_run, &l);

		if (rc < 0)
			return err_sys(e, -rc, "region %s: cannot scan its page table", r->name);
		pages += l.pages;
	}
	return pages;
}

struct arming {
	struct pagemap_scan *p;
	const struct region *r; /* of the run at hand */
	uint64_t from;          /* the region's offset that the walk's offset 0 is */
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
		rc = uffd_protect(a->p->uffd, a->r->base + a->from + offset, len);
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

/* Pages [start, start + len) of the range are wanted: protects them in each region they are of,
 * widened to whole granules. */
static int arm_wanted(void *arg, uint64_t start, uint64_t len)
{
	const struct pagemap_query q = {ANY, .protect = 1};
	struct arming *a = arg;
	uint64_t page = a->first * CHUNK_PAGES + start;
	uint64_t end = page + len;

	while (page < end) {
		const struct region *r = region_of_chunk(a->p->c.map, page / CHUNK_PAGES);
		uint64_t zero, from, to;
		int rc;

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
			to = r->bytes;
		if (from >= to)
			continue; /* bits past the region's end */
		a->from = from;
		a->page = zero + (from >> PAGE_SHIFT);
		rc = pagemap_walk(a->p->pm, &q, r->base + from, to - from, arm_run, a);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int64_t pagemap_scan_arm(struct source *s, uint64_t first, uint64_t n, const uint64_t *want,
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

static void pagemap_scan_put_back(
	struct source *s, uint64_t first, uint64_t n, const uint64_t *words)
{
	struct pagemap_scan *p = (struct pagemap_scan *)s;

	for (uint64_t c = 0; c < n; c++)
		marks_or(&p->pending, first + c, words[c]);
}

static int pagemap_scan_stop(struct source *s, struct err *e)
{
	struct pagemap_scan *p = (struct pagemap_scan *)s;

	(void)e;
	/* Closing the userfaultfd would do; unregistering lifts the protection before we answer. */
	for (unsigned i = 0; p->uffd >= 0 && i < p->c.map->n; i++)
		uffd_untrack(p->uffd, p->c.map->r[i].base, p->c.map->r[i].bytes);
	close_fd(&p->uffd);
	marks_drop(&p->pending);
	return 0;
}

static void pagemap_scan_close(struct source *s)
{
	struct pagemap_scan *p = (struct pagemap_scan *)s;

	if (p == NULL)
		return;
	pagemap_scan_stop(s, NULL);
	marks_fini(&p->pending);
	close_fd(&p->pm);
	free(p);
}

const struct source_ops source_pagemap_scan = {
	.name = "pagemap-scan",
	.open = pagemap_scan_open,
	.info = pagemap_scan_info,
	.start = pagemap_scan_start,
	.look = pagemap_scan_look,
	.arm = pagemap_scan_arm,
	.put_back = pagemap_scan_put_back,
	.stop = pagemap_scan_stop,
	.close = pagemap_scan_close,
};
