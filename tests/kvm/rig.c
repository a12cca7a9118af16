// SPDX-License-Identifier: BSD-3-Clause
// The rigs. Two regions whose sizes are no multiple of a chunk; KVM shows the first by slots that
// begin at odd pages and end off a multiple of 64, one of them an alias.

#include "rig.h"

#include "guest32.h"
#include "huge.h"
#include "ioctl.h"
#include "source_fake.h"
#include "source_set.h"
#include "vhost_log.h"
#include "vmm_writes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#define PAGES_0 1061u
#define PAGES_1 300u
#define HUGE    (2u << 20)

const struct rig_kind rig_kinds[] = {
	{"fake", &source_fake, 4096, false},
	{"vmm-writes", &source_vmm_writes, 4096, false},
	{"pagemap-scan 4 KiB", &source_pagemap_scan, 4096, false},
	{"pagemap-scan 2 MiB", &source_pagemap_scan, HUGE, false},
	{"attach 4 KiB", &source_pagemap_scan, 4096, false, 0, true, FAR_PLAIN},
	{"attach 2 MiB", &source_pagemap_scan, HUGE, false, 0, true, FAR_PLAIN},
	{"attach views", &source_pagemap_scan, 4096, false, 0, true, FAR_VIEWS},
	{"attach thp", &source_pagemap_scan, 4096, false, 0, true, FAR_THP},
	{"attach kvm", &source_pagemap_scan, 4096, true, 0, true, FAR_KVM},
	{"kvm-log", &source_kvm_log, 4096, true},
	{"kvm-log-legacy", &source_kvm_log_legacy, 4096, true},
	{"kvm-ring", &source_kvm_ring, 4096, true, 1024},
	{"vhost-log", &source_vhost_log, 4096, false},
	{"several", &source_set, 4096, true},
	{NULL, NULL, 0, false},
};

static const struct {
	unsigned region;
	struct view v;
} views[] = {
	{0, {0x10000000, 5 * PAGE_BYTES, 900 * PAGE_BYTES, 1, 0}},
	{0, {0x20000000, 905 * PAGE_BYTES, (PAGES_0 - 905) * PAGE_BYTES, 2, 0}},
	{0, {0x30000000, 300 * PAGE_BYTES, 333 * PAGE_BYTES, 3, 0}},
	{1, {0x40000000, 0, PAGES_1 *PAGE_BYTES, 4, 0}},
};

/* On a tmpfs that nobody else sees, whose pages are huge where they can be. */
static int open_thp(void)
{
	_cleanup_(close_fd) int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	_cleanup_(close_fd) int mnt = -1;

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "huge", "always", 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	return mnt < 0 ? -1 : openat(mnt, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

static int add_region(struct rig *r, const char *name, uint64_t bytes, struct err *e)
{
	unsigned flags = r->kind->page_bytes == HUGE ? MFD_HUGETLB | MFD_HUGE_2MB : 0;
	int fd =
		r->kind->far_kind == FAR_THP ? open_thp() : memfd_create(name, MFD_CLOEXEC | flags);
	int i;

	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0) {
		err_sys(e, errno, "no file for a region");
		close_fd(&fd);
		return 1;
	}
	i = region_add(&r->map, name, fd, bytes, r->kind->page_bytes, e);
	if (i < 0)
		return i;
	/* Populated, so that no write dies of a lack of memory. */
	r->map.r[i].base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (r->map.r[i].base == MAP_FAILED) {
		r->map.r[i].base = NULL;
		err_sys(e, errno, "no memory to map");
		return 1;
	}
	return 0;
}

static int add_memory(struct rig *r, struct err *e)
{
	int rc;

	if (r->kind->page_bytes == HUGE) {
		long had = huge_add(9);

		r->huge = had > 0 ? (uint32_t)had : 0;
		rc = add_region(r, "low", 3 * HUGE, e);
		if (rc == 0)
			rc = add_region(r, "high", 2 * HUGE, e);
		return rc;
	}
	rc = add_region(r, "low", PAGES_0 * PAGE_BYTES, e);
	if (rc == 0)
		rc = add_region(r, "high", PAGES_1 * PAGE_BYTES, e);
	for (unsigned i = 0; rc == 0 && i < sizeof(views) / sizeof(views[0]); i++)
		rc = region_add_view(&r->map.r[views[i].region], &views[i].v, e);
	return rc;
}

static void on_full(void *arg)
{
	struct rig *r = arg;

	r->full++;
	if (kvm_ring_full(r->source, 0) < 0)
		abort();
}

/* With manual protection and "initially set", as a VMM may have it: the source must cope. */
static void use_ring(struct rig *r, struct source_config *c)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {3}};

	(void)ioctl_ptr(guest32_vm_fd(r->guest), KVM_ENABLE_CAP, &cap);
	r->vcpus.ring_bytes = r->kind->ring_entries * (uint32_t)sizeof(struct kvm_dirty_gfn);
	r->vcpus.fd[0] = guest32_vcpu_fd(r->guest);
	r->vcpus.n = 1;
	c->vcpus = &r->vcpus;
	guest32_on_full(r->guest, on_full, r);
}

/* KVM's log, the VMM's own writes and vhost's as one. */
static int open_several(struct rig *r, const struct source_config *c, struct err *e)
{
	static const struct source_ops *const ops[] = {
		&source_kvm_log, &source_vmm_writes, &source_vhost_log};
	int rc = 0;

	r->source = source_set_new(r->map.nchunks);
	for (unsigned i = 0; rc == 0 && i < 3; i++) {
		rc = ops[i]->open(&r->parts[i], c, e);
		if (rc == 0)
			source_set_add(r->source, r->parts[i]);
	}
	return rc;
}

int rig_open(struct rig *r, const struct rig_kind *kind, struct err *e)
{
	struct source_config c = {.map = &r->map, .vm_fd = -1};
	int rc;

	memset(r, 0, sizeof(*r));
	r->kind = kind;
	rc = add_memory(r, e);
	if (rc == 0 && kind->far)
		rc = far_open(&r->far, &r->map, kind->far_kind, e);
	else if (rc == 0 && kind->kvm)
		rc = guest32_open(&r->guest, &r->map,
			kind->ring_entries * (uint32_t)sizeof(struct kvm_dirty_gfn), e);
	if (rc == 0 && kind->ring_entries > 0)
		use_ring(r, &c);
	c.attach = r->far.attach;
	if (rc == 0) {
		c.vm_fd = guest32_vm_fd(r->guest);
		rc = kind->ops == &source_set ? open_several(r, &c, e)
					      : kind->ops->open(&r->source, &c, e);
	}
	if (rc == -ENOSYS || rc == -EPERM || rc == -ENOTSUP ||
		(rc == -EINVAL && !kind->kvm && !kind->far))
		rc = 1; /* the kernel is too old, or does not let us */
	if (rc != 0)
		rig_close(r);
	return rc;
}

void rig_close(struct rig *r)
{
	if (r->source != NULL)
		r->kind->ops->close(r->source);
	far_close(&r->far);
	guest32_close(r->guest);
	region_map_close(&r->map);
	if (r->huge != 0)
		huge_add(-(long)r->huge);
	r->huge = 0;
}

static uint32_t *word_of(struct rig *r, uint64_t page)
{
	struct region *g = region_of_chunk(&r->map, page / 64);

	return (uint32_t *)(g->base + ((page - g->first_chunk * 64) << PAGE_SHIFT));
}

uint32_t rig_read(const struct rig *r, uint64_t page)
{
	return __atomic_load_n(word_of((struct rig *)r, page), __ATOMIC_RELAXED);
}

/* The guest address of a page in one of the views that show it. False: in none. */
static bool gpa_of(struct rig *r, uint64_t page, unsigned pick, uint64_t *gpa)
{
	struct region *g = region_of_chunk(&r->map, page / 64);
	uint64_t offset = (page - g->first_chunk * 64) << PAGE_SHIFT;
	bool found = false;

	for (unsigned i = 0; i < g->nviews; i++) {
		const struct view *v = &g->views[i];

		if (offset < v->offset_bytes || offset - v->offset_bytes >= v->bytes)
			continue;
		if (!found || pick % 2)
			*gpa = v->gpa + (offset - v->offset_bytes);
		found = true;
	}
	return found;
}

bool rig_page(struct rig *r, uint64_t page)
{
	struct region *g = region_of_chunk(&r->map, page / 64);
	uint64_t gpa;

	if (g == NULL || (page - g->first_chunk * 64) << PAGE_SHIFT >= g->bytes)
		return false;
	return (!r->kind->kvm && r->kind->ops != &source_vhost_log) || gpa_of(r, page, 0, &gpa);
}

/* As a back end does: the bytes, then the bit. */
static void vhost_write(
	struct rig *r, struct source *log, uint64_t page, uint32_t value, uint64_t gpa)
{
	uint64_t bytes, bit = gpa / VHOST_LOG_PAGE;
	void *base;

	if (r->card != NULL) {
		r->card(r->card_arg, gpa, value);
		return;
	}
	vhost_log_area(log, &bytes, &base);
	if (bit / 8 >= bytes)
		abort();
	__atomic_store_n(word_of(r, page), value, __ATOMIC_RELAXED);
	__atomic_fetch_or((uint8_t *)base + bit / 8, (uint8_t)(1u << bit % 8), __ATOMIC_SEQ_CST);
}

static void told_write(struct rig *r, struct source *s, uint64_t page, uint32_t value)
{
	__atomic_store_n(word_of(r, page), value, __ATOMIC_RELAXED);
	vmm_writes_mark(s, page, 1);
}

/* By any of them, some by two. */
static void several_write(struct rig *r, uint64_t page, uint32_t value, uint64_t gpa)
{
	if (value % 4 == 0)
		told_write(r, r->parts[1], page, value);
	if (value % 4 == 1 || value % 16 == 0)
		vhost_write(r, r->parts[2], page, value, gpa);
	if (value % 4 > 1 || value % 16 == 4)
		guest32_write(r->guest, (uint32_t)gpa, value);
}

void rig_write(struct rig *r, uint64_t page, uint32_t value, unsigned pick)
{
	const struct source_ops *ops = r->kind->ops;
	uint64_t gpa = 0;

	if (!rig_page(r, page))
		return;
	if (r->kind->far) {
		far_do(&r->far, FAR_WRITE, page, value, pick);
		return;
	}
	gpa_of(r, page, pick, &gpa);
	if (ops == &source_set)
		several_write(r, page, value, gpa);
	else if (ops == &source_vhost_log)
		vhost_write(r, r->source, page, value, gpa);
	else if (ops == &source_vmm_writes)
		told_write(r, r->source, page, value);
	else if (r->kind->kvm)
		guest32_write(r->guest, (uint32_t)gpa, value);
	else
		__atomic_store_n(word_of(r, page), value, __ATOMIC_RELAXED);
	if (ops == &source_fake)
		source_fake_write(r->source, page);
}
