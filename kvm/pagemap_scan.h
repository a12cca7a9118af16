/* SPDX-License-Identifier: BSD-3-Clause */
/* Between the parts of the dirty source "pagemap-scan". */
#ifndef GODWIT_KVM_PAGEMAP_SCAN_H
#define GODWIT_KVM_PAGEMAP_SCAN_H

#include "attach.h"
#include "marks.h"
#include "pagemap.h"
#include "source.h"

/* Pages written or not present, told with what they are. */
#define PAGEMAP_SCAN_ANY                                                                           \
	.inverted = PAGEMAP_PRESENT, .any = PAGEMAP_PRESENT | PAGEMAP_WRITTEN,                     \
	.report = PAGEMAP_WRITTEN | PAGEMAP_PRESENT | PAGEMAP_SWAPPED

struct pagemap_scan {
	struct source source;
	struct source_config c;
	int uffd; /* -1: stopped; attached: the attach's */
	int pm;
	unsigned n;
	struct attach_ram *ram; /* the writer's mappings */
	uint64_t granule_bytes;
	struct marks pending; /* put back, or consumed outside of the armed range */
};

static inline const struct region *pagemap_scan_region(
	const struct pagemap_scan *p, const struct attach_ram *m)
{
	return &p->c.map->r[m->region];
}

/* The row's arm(). */
int64_t pagemap_scan_arm(struct source *s, uint64_t first, uint64_t n, const uint64_t *want,
	uint64_t *out, struct err *e);

/* Makes the source without testing it. */
int pagemap_scan_make(struct source **s, const struct source_config *c, struct err *e);

/* Writes, zaps, punches and refills pages of a scratch file of this backing, and refuses with the
 * step that was not seen. Where no huge page is to spare it tries small pages. 0 or -errno. */
int pagemap_selftest(uint32_t page_bytes, struct err *e);
/* The same over small pages that a transparent huge page maps. privileged: may mount a tmpfs that
 * nobody else sees. 1: no such page was to be had. */
int pagemap_selftest_thp(bool privileged, struct err *e);
/* 1: a huge page maps some of [addr, addr + bytes), as pagemap_walk() takes them. 0, or -errno. */
int pagemap_has_thp(int pm, uint64_t addr, uint64_t bytes);

#endif
