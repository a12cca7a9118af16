// SPDX-License-Identifier: BSD-3-Clause
// Tries "pagemap-scan" on a scratch file before a guest's memory is trusted to it: kernels differ
// in what they tell of pages that were zapped, punched or never populated. Run once a backing, when
// the source is opened. The scratch file has one chunk or granule a page of the test.

#include "pagemap_scan.h"

#include "bits.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define UNITS 4u /* granules of the scratch file */

struct scratch {
	struct region_map map;
	struct source *source;
	uint64_t words[UNITS * 8]; /* 2 MiB are 8 chunks */
	uint64_t none[UNITS * 8];
};

static bool reported(const struct scratch *t, unsigned unit)
{
	return bits_test(t->words, unit * (t->map.r[0].page_bytes >> PAGE_SHIFT));
}

static int look(struct scratch *t, struct err *e)
{
	memset(t->words, 0, sizeof(t->words));
	return (int)source_pagemap_scan.look(t->source, t->words, false, e);
}

static int arm_all(struct scratch *t, struct err *e)
{
	memset(t->words, 0, sizeof(t->words));
	bits_set_range(t->words, 0, t->map.bytes >> PAGE_SHIFT);
	return (int)source_pagemap_scan.arm(t->source, 0, t->map.nchunks, t->words, t->none, e);
}

/* Each step does one thing to the scratch memory after it was armed. */
static void do_write(struct region *r, unsigned unit)
{
	*(volatile uint8_t *)(r->base + (uint64_t)unit * r->page_bytes) = 1;
}

static void do_zap(struct region *r, unsigned unit)
{
	do_write(r, unit);
	madvise(r->base + (uint64_t)unit * r->page_bytes, r->page_bytes, MADV_DONTNEED);
}

static void do_zap_all(struct region *r, unsigned unit)
{
	do_write(r, unit);
	madvise(r->base, r->bytes, MADV_DONTNEED);
}

static void do_refill(struct region *r, unsigned unit)
{
	fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		(off_t)unit * (off_t)r->page_bytes, (off_t)r->page_bytes);
	do_write(r, unit);
}

static const struct {
	const char *what;
	void (*act)(struct region *r, unsigned unit);
	unsigned unit;
} steps[] = {
	{"a write to a page", do_write, 0},
	{"a write to a page that was a hole", do_write, 1},
	{"a write to a page that was zapped afterwards", do_zap, 0},
	{"a write to a page whose page table was zapped afterwards", do_zap_all, 1},
	{"a write to a page that was punched before", do_refill, 0},
};

static int run_steps(struct scratch *t, struct err *e)
{
	struct region *r = &t->map.r[0];

	if (source_pagemap_scan.start(t->source, e) < 0)
		return -e->errnum;
	do_write(r, 2);
	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		if (arm_all(t, e) < 0 || look(t, e) < 0)
			return -e->errnum;
		if (reported(t, steps[i].unit) || reported(t, 2))
			return err_set(e, ENOTSUP,
				"this kernel's PAGEMAP_SCAN reports a page again that was armed "
				"(pages of %u bytes); use another dirty source",
				r->page_bytes);
		steps[i].act(r, steps[i].unit);
		if (look(t, e) < 0)
			return -e->errnum;
		if (!reported(t, steps[i].unit))
			return err_set(e, ENOTSUP,
				"this kernel's PAGEMAP_SCAN does not see %s (pages of %u bytes); "
				"use another dirty source",
				steps[i].what, r->page_bytes);
	}
	return 0;
}

static int make_scratch(struct scratch *t, uint32_t page_bytes, struct err *e)
{
	uint64_t bytes = (uint64_t)page_bytes * UNITS;
	int fd = memfd_create("godwit-selftest",
		MFD_CLOEXEC | (page_bytes > PAGE_BYTES ? MFD_HUGETLB | MFD_HUGE_2MB : 0));

	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0) {
		err_sys(e, errno, "cannot make a scratch file");
		close_fd(&fd);
		return -e->errnum;
	}
	if (region_add(&t->map, "selftest", fd, bytes, page_bytes, e) < 0) {
		close_fd(&fd);
		return -e->errnum;
	}
	/* Reserves its pages, unlike a region's mapping, so that no write can fail. */
	t->map.r[0].base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (t->map.r[0].base == MAP_FAILED) {
		t->map.r[0].base = NULL;
		return err_sys(e, errno, "cannot map a scratch file");
	}
	return 0;
}

int pagemap_selftest(uint32_t page_bytes, struct err *e)
{
	struct scratch *t = calloc(1, sizeof(*t));
	struct source_config c = {.vm_fd = -1};
	struct err own;
	int rc;

	if (t == NULL)
		return err_set(e, ENOMEM, "out of memory");
	e = e != NULL ? e : &own;
	c.map = &t->map;
	rc = make_scratch(t, page_bytes, e);
	if (rc < 0 && page_bytes > PAGE_BYTES) {
		/* No huge page to spare: the kernel is tried on small pages. */
		rc = pagemap_selftest(PAGE_BYTES, e);
	} else if (rc == 0) {
		rc = pagemap_scan_make(&t->source, &c, e);
		if (rc == 0)
			rc = run_steps(t, e);
		source_pagemap_scan.close(t->source);
	}
	region_map_close(&t->map);
	free(t);
	return rc;
}
