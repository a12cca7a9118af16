// SPDX-License-Identifier: BSD-3-Clause
// Tries "pagemap-scan" on a scratch file before a guest's memory is trusted to it: kernels differ
// in what they tell of pages that were zapped, punched or never populated. Run once a backing, when
// the source is opened: small pages, small pages that the kernel maps by a transparent huge page,
// and huge pages. The scratch file has four of them; where they are transparent, 4 MiB.

#include "pagemap_scan.h"

#include "bits.h"
#include "pagemap.h"
#include "plant.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#define UNITS     4u /* granules of the scratch file */
#define THP_BYTES (UINT64_C(4) << 20)

struct scratch {
	struct region_map map;
	struct source *source;
	const char *kind;
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

/* The page before it is taken out of what may be one huge page with it, or a neighbour of its. */
static void do_neighbour(struct region *r, unsigned unit)
{
	fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		(off_t)(unit - 1) * (off_t)r->page_bytes, (off_t)r->page_bytes);
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
	{"a write to a page whose neighbour was punched", do_neighbour, 1},
	{"a write to a page that was punched once, beside a page in use", do_write, 0},
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
				"(%s); use another dirty source",
				t->kind);
		if (!plant(PLANT_LAW1_BLIND_KERNEL))
			steps[i].act(r, steps[i].unit);
		if (look(t, e) < 0)
			return -e->errnum;
		if (!reported(t, steps[i].unit))
			return err_set(e, ENOTSUP,
				"this kernel's PAGEMAP_SCAN does not see %s (%s); use another "
				"dirty source",
				steps[i].what, t->kind);
	}
	return 0;
}

/* A file on a tmpfs of our own that gives huge pages whatever the system's policy for memfds is. It
 * takes CAP_SYS_ADMIN. fd or -1. */
static int open_thp_tmpfs(void)
{
	_cleanup_(close_fd) int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	_cleanup_(close_fd) int mnt = -1;

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "huge", "always", 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	return mnt < 0 ? -1 : openat(mnt, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

/* Takes fd. */
static int map_scratch(
	struct scratch *t, int fd, uint64_t bytes, uint32_t page_bytes, struct err *e)
{
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

static int run_scratch(struct scratch *t, struct err *e)
{
	struct source_config c = {.map = &t->map, .vm_fd = -1};
	int rc = pagemap_scan_make(&t->source, &c, e);

	if (rc == 0)
		rc = run_steps(t, e);
	source_pagemap_scan.close(t->source);
	t->source = NULL;
	return rc;
}

static int found(void *arg, uint64_t offset, uint64_t bytes, uint64_t state)
{
	(void)arg;
	(void)offset;
	(void)bytes;
	(void)state;
	return 1;
}

int pagemap_has_thp(int pm, uint64_t addr, uint64_t bytes)
{
	const struct pagemap_query q = {.all = PAGEMAP_HUGE, .report = PAGEMAP_HUGE};

	return pagemap_walk(pm, &q, addr, bytes, found, NULL);
}

static int is_thp(const struct region *r)
{
	_cleanup_(close_fd) int pm = pagemap_open(0);

	return pm >= 0 && pagemap_has_thp(pm, (uintptr_t)r->base, r->bytes) == 1;
}

/* One byte in each MiB gets a huge page where there are any; small pages for all would cost ms. */
static void touch(const struct region *r)
{
	for (uint64_t at = 0; at < r->bytes; at += 1u << 20)
		*(volatile uint8_t *)(r->base + at) = 1;
}

/* 1: no huge page was to be had. */
static int try_thp(struct scratch *t, int fd, struct err *e)
{
	int rc;

	if (fd < 0)
		return 1;
	t->kind = "transparent huge pages";
	rc = map_scratch(t, fd, THP_BYTES, PAGE_BYTES, e);
	if (rc == 0) {
		madvise(t->map.r[0].base, THP_BYTES, MADV_HUGEPAGE);
		touch(&t->map.r[0]);
		rc = is_thp(&t->map.r[0]) ? 0 : 1;
	}
	if (rc == 0) {
		memset(t->map.r[0].base, 1, THP_BYTES);
		rc = run_scratch(t, e);
	}
	region_map_close(&t->map);
	return rc;
}

int pagemap_selftest_thp(bool privileged, struct err *e)
{
	struct scratch *t = calloc(1, sizeof(*t));
	struct err own;
	int rc;

	if (t == NULL)
		return err_set(e, ENOMEM, "out of memory");
	e = e != NULL ? e : &own;
	rc = try_thp(t, memfd_create("godwit-selftest", MFD_CLOEXEC), e);
	if (rc == 1 && privileged)
		rc = try_thp(t, open_thp_tmpfs(), e);
	free(t);
	return rc;
}

int pagemap_selftest(uint32_t page_bytes, struct err *e)
{
	struct scratch *t = calloc(1, sizeof(*t));
	bool huge = page_bytes > PAGE_BYTES;
	struct err own;
	int rc;

	if (t == NULL)
		return err_set(e, ENOMEM, "out of memory");
	e = e != NULL ? e : &own;
	t->kind = huge ? "huge pages" : "pages of 4096 bytes";
	rc = map_scratch(t,
		memfd_create(
			"godwit-selftest", MFD_CLOEXEC | (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0)),
		(uint64_t)page_bytes * UNITS, page_bytes, e);
	if (rc < 0 && huge) /* no huge page to spare: the kernel is tried on small pages */
		rc = pagemap_selftest(PAGE_BYTES, e);
	else if (rc == 0)
		rc = run_scratch(t, e);
	region_map_close(&t->map);
	free(t);
	return rc;
}
