// SPDX-License-Identifier: BSD-3-Clause
// Dirty source "pagemap-scan": write-protection by userfaultfd in asynchronous mode, read and set
// by PAGEMAP_SCAN. Run by the agent's thread inside the VMM's process, over the mappings that the
// VMM gave (region.base), or by one thread of another process, over all the VMM's mappings of the
// RAM (attach.h); a page is written if it is by any of them. What is mapped elsewhere, and pinned
// pages, are not seen (law 2).
//
// A page is written if its entry is not write-protected. An entry that is absent (never touched, or
// zapped, and since Linux 6.14 whole page tables go with the last entry) says nothing: such a page
// is reported where the file has data. Arming leaves markers in absent entries, so that they are
// not reported again (hugetlbfs can't tell its holes: there all is reported until it was armed).

#include "pagemap_scan.h"

#include "bits.h"
#include "hole.h"
#include "uffd.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/vfs.h>

/* The mappings: what was attached to, or each region at its base. */
static int take_mappings(struct pagemap_scan *p)
{
	const struct attach_ram *given = NULL;

	p->n = p->c.map->n;
	if (p->c.attach != NULL)
		given = attach_mappings(p->c.attach, &p->n);
	p->ram = calloc(p->n > 0 ? p->n : 1, sizeof(*p->ram));
	if (p->ram == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < p->n; i++)
		p->ram[i] = given != NULL ? given[i]
					  : (struct attach_ram){(uintptr_t)p->c.map->r[i].base,
						    p->c.map->r[i].bytes, 0, i};
	return 0;
}

int pagemap_scan_make(struct source **s, const struct source_config *c, struct err *e)
{
	struct pagemap_scan *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return err_set(e, ENOMEM, "out of memory");
	p->source.ops = &source_pagemap_scan;
	p->c = *c;
	p->uffd = p->pm = -1;
	p->granule_bytes = PAGE_BYTES;
	for (unsigned i = 0; i < c->map->n; i++)
		if (c->map->r[i].page_bytes > p->granule_bytes)
			p->granule_bytes = c->map->r[i].page_bytes;
	*s = &p->source;
	if (marks_init(&p->pending, c->map->nchunks) < 0 || take_mappings(p) < 0)
		return err_set(e, ENOMEM, "out of memory");
	p->pm = c->attach != NULL ? attach_pagemap(c->attach) : pagemap_open(0);
	if (p->pm < 0)
		return err_sys(
			e, -p->pm, "cannot open the writer's /proc/PID/pagemap; is /proc mounted?");
	return 0;
}

/* What the region says of itself must fit what it is, as far as arming relies on it. */
static int check_region(const struct region *r, bool own, struct err *e)
{
	struct statfs fs;

	if (own && r->base == NULL)
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

/* Each byte of each region is shown by a mapping; each mapping is of whole pages of its region. */
static int check_mappings(const struct pagemap_scan *p, struct err *e)
{
	for (unsigned i = 0; i < p->c.map->n; i++) {
		const struct region *r = &p->c.map->r[i];
		uint64_t at = 0;
		unsigned k = 0;

		while (at < r->bytes && k < p->n) {
			const struct attach_ram *m = &p->ram[k];
			bool in = m->region == i && at - m->offset < m->bytes;

			if (in)
				at = m->offset + m->bytes;
			k = in ? 0 : k + 1;
		}
		if (at < r->bytes)
			return err_set(e, EINVAL,
				"region %s: the VMM maps nothing of it at offset %llx", r->name,
				(unsigned long long)at);
	}
	for (unsigned k = 0; k < p->n; k++) {
		const struct attach_ram *m = &p->ram[k];
		const struct region *r = m->region < p->c.map->n ? pagemap_scan_region(p, m) : NULL;

		if (r == NULL || (m->addr | m->offset | m->bytes) % r->page_bytes != 0 ||
			m->offset >= r->bytes || m->bytes > r->bytes - m->offset)
			return err_set(e, EINVAL,
				"a mapping at %llx is not of whole pages of its "
				"region",
				(unsigned long long)m->addr);
	}
	return 0;
}

/* Small pages may be mapped by a transparent huge page, now or later; that takes its own test.
 * Where none is to be had for it, none may be in use. */
static int test_thp(const struct pagemap_scan *p, struct err *e)
{
	int rc = pagemap_selftest_thp(p->c.attach != NULL, e);

	for (unsigned i = 0; rc == 1 && i < p->n; i++) {
		const struct region *r = pagemap_scan_region(p, &p->ram[i]);

		if (r->page_bytes == PAGE_BYTES &&
			pagemap_has_thp(p->pm, p->ram[i].addr, p->ram[i].bytes) == 1)
			return err_set(e, ENOTSUP,
				"region %s has transparent huge pages, on which pagemap-scan could "
				"not be tested; run godwitd as root, or use another dirty source",
				r->name);
	}
	return rc < 0 ? rc : 0;
}

static int test_backing(const struct source_config *c, struct err *e)
{
	unsigned tested = 0;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < c->map->n; i++) {
		const struct region *r = &c->map->r[i];
		unsigned kind = r->page_bytes == PAGE_BYTES ? 1 : 2;

		rc = check_region(r, c->attach == NULL, e);
		if (rc < 0 || (tested & kind) != 0)
			continue;
		tested |= kind;
		rc = pagemap_selftest(r->page_bytes, e);
	}
	return rc;
}

static int pagemap_scan_open(struct source **s, const struct source_config *c, struct err *e)
{
	int rc;

	*s = NULL;
	rc = test_backing(c, e);
	if (rc < 0)
		return rc;
	rc = pagemap_scan_make(s, c, e);
	if (rc == 0)
		rc = check_mappings((struct pagemap_scan *)*s, e);
	if (rc == 0)
		rc = test_thp((struct pagemap_scan *)*s, e);
	/* Whether these very mappings can be tracked. attach_open() has shown that of its own, and
	 * left them registered: to undo that costs the kernel a walk over all that is mapped. */
	if (rc == 0 && c->attach == NULL)
		rc = source_pagemap_scan.start(*s, e);
	if (rc == 0 && c->attach == NULL)
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
	info->mode = ((const struct pagemap_scan *)s)->c.attach != NULL ? "userfaultfd, attached"
									: "userfaultfd";
}

static int pagemap_scan_start(struct source *s, struct err *e)
{
	struct pagemap_scan *p = (struct pagemap_scan *)s;

	if (p->uffd >= 0)
		return 0;
	if (p->c.attach != NULL) {
		int rc = attach_track(p->c.attach, e);

		if (rc == 0)
			p->uffd = attach_uffd(p->c.attach);
		return rc;
	}
	p->uffd = uffd_open();
	if (p->uffd < 0)
		return err_sys(e, -p->uffd,
			"cannot track writes by userfaultfd; it takes Linux 6.7 and permission "
			"(access to /dev/userfaultfd)");
	for (unsigned i = 0; i < p->n; i++) {
		int rc = uffd_track(p->uffd, p->ram[i].addr, p->ram[i].bytes);

		if (rc < 0) {
			s->ops->stop(s, NULL);
			return err_sys(e, -rc,
				"region %s: userfaultfd can't track its mapping (EINVAL: not a "
				"memfd, tmpfs or hugetlbfs file; EBUSY: tracked already)",
				pagemap_scan_region(p, &p->ram[i])->name);
		}
	}
	return 0;
}

struct looking {
	const struct region *r;
	uint64_t from; /* the offset of the file that the walk's offset 0 is */
	uint64_t *out; /* the region's words */
	int64_t pages;
	struct hole_extent known; /* as it was when this look came to it, or before */
};

/* Pages of the file. */
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

	offset += l->from;
	/* A huge page that is not mapped is told as written, hole or not: to ask for each such run
	 * would cost more than it spares, and whoever looks for holes sees them once for all. */
	if ((state & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) == 0 && l->r->page_bytes != PAGE_BYTES)
		return show(l, offset, len);
	if ((state & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) == 0)
		return hole_walk_next(l->r->fd, offset, len, &l->known, show, l);
	return (state & PAGEMAP_WRITTEN) != 0 ? show(l, offset, len) : 0;
}

static int64_t pagemap_scan_look(struct source *s, uint64_t *out, bool last, struct err *e)
{
	const struct pagemap_query q = {PAGEMAP_SCAN_ANY};
	struct pagemap_scan *p = (struct pagemap_scan *)s;
	int64_t pages = marks_show(&p->pending, out);

	(void)last; /* every look covers all */
	if (p->c.attach != NULL) {
		int rc = attach_verify(p->c.attach, e);

		if (rc < 0)
			return rc;
	}
	for (unsigned i = 0; i < p->n; i++) {
		const struct attach_ram *m = &p->ram[i];
		const struct region *r = pagemap_scan_region(p, m);
		struct looking l = {.r = r, .from = m->offset, .out = out + r->first_chunk};
		int rc = pagemap_walk(p->pm, &q, m->addr, m->bytes, look_run, &l);

		if (rc < 0)
			return err_sys(e, -rc, "region %s: cannot scan its page table", r->name);
		pages += l.pages;
	}
	return pages;
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
	if (p->c.attach != NULL) {
		if (p->uffd >= 0)
			attach_untrack(p->c.attach);
		p->uffd = -1;
	}
	/* Closing the userfaultfd would do; unregistering lifts the protection before we answer. */
	for (unsigned i = 0; p->uffd >= 0 && i < p->n; i++)
		uffd_untrack(p->uffd, p->ram[i].addr, p->ram[i].bytes);
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
	free(p->ram);
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
