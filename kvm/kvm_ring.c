// SPDX-License-Identifier: BSD-3-Clause
// Dirty source "kvm-ring": a ring of written pages for each vCPU. Run by the agent's thread in the
// VMM's process; kvm_ring_full() by vCPU threads.
//
// Resetting a ring protects all of its pages at once, and it has to be done when the ring is full,
// whenever that is. So each harvest marks its pages in `told`, each look moves those to `pending`
// and reports them until they are armed (law 1); arm itself has nothing to do in the kernel.
// Harvest and reset are one step under the lock. Pages whose entries were overwritten would never
// be protected again: after an overrun the next look switches the log off and on, which protects
// all, and then reports all as dirty.
//
// A VM with manual protection and "initially set" would not protect its pages when the log is
// switched on, and rings would stay empty: that is switched off here, each time, as nothing else
// can use it beside rings. Where the VMM enabled the bitmap beside the ring (writes without a
// vCPU), it is got and cleared at each look.

#include "kvm_ring.h"

#include "ioctl.h"
#include "log_views.h"
#include "marks.h"
#include "memslot.h"
#include "ring.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

#define ENTRY_BYTES sizeof(struct kvm_dirty_gfn)

struct kvm_ring {
	struct source source;
	struct source_config c;
	pthread_mutex_t lock; /* of rings, n, overruns, relog */
	unsigned n;           /* rings mapped; as many as vCPUs were there at the last start */
	struct ring rings[RING_VCPUS];
	uint64_t overruns;
	bool relog;           /* entries were lost: their pages must be protected again */
	struct marks told;    /* any thread marks, agent moves */
	struct marks pending; /* agent only */
	bool bitmap;          /* KVM keeps a bitmap too */
	bool manual;          /* KVM knows manual protection, which is switched off */
	struct log_views views;
};

static void kvm_ring_close(struct source *s);
static int kvm_ring_stop(struct source *s, struct err *e);

static void mark_all(struct kvm_ring *k)
{
	for (unsigned i = 0; i < k->c.map->n; i++)
		marks_range(&k->told, k->c.map->r[i].first_chunk * CHUNK_PAGES,
			k->c.map->r[i].bytes >> PAGE_SHIFT);
}

/* Slots that are not ours have a log of their own purpose; a page past a slot's end is nonsense
 * that only an overrun could explain, and is not guessed at. */
static void on_found(void *arg, uint32_t slot, uint64_t page)
{
	struct kvm_ring *k = arg;

	for (unsigned i = 0; i < k->views.n; i++) {
		const struct log_view *rv = &k->views.v[i];

		if (memslot_id(rv->v) != slot)
			continue;
		if (page >= rv->v->bytes >> PAGE_SHIFT)
			mark_all(k);
		else
			marks_range(&k->told,
				rv->r->first_chunk * CHUNK_PAGES +
					(rv->v->offset_bytes >> PAGE_SHIFT) + page,
				1);
		return;
	}
}

static int on_reset(void *arg)
{
	struct kvm_ring *k = arg;

	return ioctl_val(k->c.vm_fd, KVM_RESET_DIRTY_RINGS, 0);
}

static int take(struct kvm_ring *k, unsigned i, bool full)
{
	const struct ring_io io = {on_found, on_reset, k};
	bool overran = false;
	int rc = full ? ring_take_full(&k->rings[i], &io, &overran)
		      : ring_take(&k->rings[i], &io, &overran);

	if (overran) {
		k->overruns++;
		k->relog = true; /* by the next look: a vCPU's thread is kept short */
	}
	return rc < 0 ? rc : 0;
}

int kvm_ring_full(struct source *s, unsigned vcpu)
{
	struct kvm_ring *k = (struct kvm_ring *)s;
	int rc = -EINVAL;

	pthread_mutex_lock(&k->lock);
	if (vcpu < k->n)
		rc = take(k, vcpu, true);
	pthread_mutex_unlock(&k->lock);
	return rc;
}

uint64_t kvm_ring_overruns(const struct source *s)
{
	struct kvm_ring *k = (struct kvm_ring *)s;
	uint64_t n;

	pthread_mutex_lock(&k->lock);
	n = k->overruns;
	pthread_mutex_unlock(&k->lock);
	return n;
}

static int take_all(struct kvm_ring *k)
{
	int worst = 0;

	pthread_mutex_lock(&k->lock);
	for (unsigned i = 0; i < k->n; i++) {
		int rc = take(k, i, false);

		if (rc < 0)
			worst = rc;
	}
	pthread_mutex_unlock(&k->lock);
	return worst;
}

/* Touching a ring that is shorter than told would be a SIGBUS; a longer one would be read wrong. */
static int map_ring(struct kvm_ring *k, unsigned i, struct err *e)
{
	size_t bytes = k->c.vcpus->ring_bytes;
	uint8_t *p = mmap(NULL, bytes + PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
		k->c.vcpus->fd[i], (off_t)KVM_DIRTY_LOG_PAGE_OFFSET * (off_t)PAGE_BYTES);

	if (p == MAP_FAILED)
		return err_sys(e, errno, "cannot map the dirty ring of vCPU %u", i);
	if (madvise(p, bytes, MADV_POPULATE_READ) < 0 ||
		madvise(p + bytes, PAGE_BYTES, MADV_POPULATE_READ) == 0) {
		munmap(p, bytes + PAGE_BYTES);
		return err_set(e, EINVAL,
			"the dirty ring of vCPU %u is not of %zu bytes; give the library the size "
			"that the VM was enabled with",
			i, bytes);
	}
	munmap(p + bytes, PAGE_BYTES);
	pthread_mutex_lock(&k->lock);
	k->rings[i] = (struct ring){
		.e = (struct kvm_dirty_gfn *)(void *)p, .size = (uint32_t)(bytes / ENTRY_BYTES)};
	k->n = i + 1;
	pthread_mutex_unlock(&k->lock);
	return 0;
}

static int map_rings(struct kvm_ring *k, struct err *e)
{
	/* acquire: pairs with whoever added the vCPU */
	unsigned n = __atomic_load_n(&k->c.vcpus->n, __ATOMIC_ACQUIRE);
	int rc = 0;

	for (unsigned i = k->n; rc == 0 && i < n && i < RING_VCPUS; i++)
		rc = map_ring(k, i, e);
	return rc;
}

static int check(const struct source_config *c, struct err *e)
{
	uint32_t bytes = c->vcpus != NULL ? c->vcpus->ring_bytes : 0;
	int most, rc;

	if (c->vm_fd < 0)
		return err_set(e, EINVAL, "kvm-ring needs a KVM VM; give the library the VM fd");
	if (bytes < PAGE_BYTES || (bytes & (bytes - 1)) != 0)
		return err_set(e, EINVAL,
			"a dirty ring must have a power of two of bytes, 4096 at least; got %u",
			bytes);
	most = ioctl_val(c->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
	if (most < 0 || (uint32_t)most < bytes)
		return err_set(e, ENOSYS,
			"this kernel has %s for a VM; use kvm-log or a smaller ring",
			most > 0 ? "no dirty rings of that size" : "no dirty rings");
	/* Refused where rings are not enabled. */
	rc = ioctl_val(c->vm_fd, KVM_RESET_DIRTY_RINGS, 0);
	return rc >= 0 ? 0
		       : err_sys(e, -rc,
				 "the VM does not use dirty rings; enable "
				 "KVM_CAP_DIRTY_LOG_RING_ACQ_REL before its first vCPU is made");
}

static int kvm_ring_open(struct source **s, const struct source_config *c, struct err *e)
{
	struct kvm_ring *k;
	int rc = check(c, e);

	if (rc < 0)
		return rc;
	k = calloc(1, sizeof(*k));
	if (k == NULL)
		return err_set(e, ENOMEM, "out of memory");
	k->source.ops = &source_kvm_ring;
	k->c = *c;
	pthread_mutex_init(&k->lock, NULL);
	k->manual = ioctl_val(c->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) > 0;
	rc = log_views_init(&k->views, c, e);
	if (rc == 0 && (marks_init(&k->told, c->map->nchunks) < 0 ||
			       marks_init(&k->pending, c->map->nchunks) < 0))
		rc = err_set(e, ENOMEM, "out of memory for the pending set");
	if (rc == 0)
		rc = map_rings(k, e);
	if (rc < 0) {
		kvm_ring_close(&k->source);
		return rc;
	}
	*s = &k->source;
	return 0;
}

static void kvm_ring_info(const struct source *s, struct source_info *info)
{
	const struct kvm_ring *k = (const struct kvm_ring *)s;

	info->granule_bytes = PAGE_BYTES;
	info->writers = SOURCE_SEES_VCPU;
	info->starts_all_dirty = false;
	info->mode = k->manual ? "manual protect switched off" : "rings alone";
}

static int forbid_manual(struct kvm_ring *k, struct err *e)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2};
	int rc;

	if (!k->manual)
		return 0;
	rc = ioctl_ptr(k->c.vm_fd, KVM_ENABLE_CAP, &cap);
	return rc < 0 ? err_sys(e, -rc,
				"KVM does not give up manual dirty-log protection, which loses "
				"writes beside dirty rings")
		      : 0;
}

/* Is there a bitmap beside the rings? Only ENXIO says no: a failure that passed for it would lose
 * what is written without a vCPU. What the get returns was written before start: it is of pass 0.
 */
static int find_bitmap(struct kvm_ring *k, struct err *e)
{
	int rc = k->views.n > 0 ? slot_log_get(&k->views.v[0].log) : -ENXIO;

	k->bitmap = rc == 0;
	if (rc == 0)
		slot_log_forget(&k->views.v[0].log);
	return rc == 0 || rc == -ENXIO
		       ? 0
		       : err_sys(e, -rc, "cannot get KVM's bitmap beside the dirty rings");
}

static int kvm_ring_start(struct source *s, struct err *e)
{
	struct kvm_ring *k = (struct kvm_ring *)s;
	int rc = map_rings(k, e);

	if (rc == 0)
		rc = forbid_manual(k, e);
	if (rc == 0)
		rc = log_views_on(&k->views, e);
	if (rc == 0)
		rc = find_bitmap(k, e);
	if (rc < 0)
		kvm_ring_stop(s, NULL);
	return rc;
}

/* After an overrun. */
static int protect_again(struct kvm_ring *k, struct err *e)
{
	int rc = 0;
	bool relog;

	pthread_mutex_lock(&k->lock);
	relog = k->relog;
	k->relog = false;
	pthread_mutex_unlock(&k->lock);
	if (!relog)
		return 0;
	rc = log_views_off(&k->views, e);
	if (rc == 0)
		rc = log_views_on(&k->views, e);
	mark_all(k);
	if (rc < 0) {
		pthread_mutex_lock(&k->lock);
		k->relog = true;
		pthread_mutex_unlock(&k->lock);
	}
	return rc;
}

static int64_t kvm_ring_look(struct source *s, uint64_t *out, bool last, struct err *e)
{
	struct kvm_ring *k = (struct kvm_ring *)s;
	int rc = map_rings(k, e); /* of vCPUs that came since */

	(void)last;
	if (rc < 0)
		return rc;
	rc = take_all(k);
	if (rc < 0)
		return err_sys(e, -rc,
			"cannot reset the VM's dirty rings (EIO: not called in the VMM's process)");
	for (unsigned i = 0; rc == 0 && k->bitmap && i < k->views.n; i++)
		rc = log_view_take(&k->views.v[i], &k->pending);
	if (rc < 0)
		return err_sys(e, -rc, "cannot get KVM's bitmap beside the dirty rings");
	rc = protect_again(k, e);
	if (rc < 0)
		return rc;
	marks_move(&k->told, &k->pending);
	return marks_show(&k->pending, out);
}

static int64_t kvm_ring_arm(struct source *s, uint64_t first, uint64_t n, const uint64_t *want,
	uint64_t *out, struct err *e)
{
	(void)out;
	(void)e;
	marks_clear_words(&((struct kvm_ring *)s)->pending, first, n, want);
	return 0;
}

static void kvm_ring_put_back(struct source *s, uint64_t first, uint64_t n, const uint64_t *words)
{
	struct kvm_ring *k = (struct kvm_ring *)s;

	for (uint64_t c = 0; c < n; c++)
		marks_or(&k->pending, first + c, words[c]);
}

static int kvm_ring_stop(struct source *s, struct err *e)
{
	struct kvm_ring *k = (struct kvm_ring *)s;
	int worst = log_views_off(&k->views, e);

	/* A vCPU may still be making room; told is emptied by exchange, not under its hands. */
	take_all(k);
	pthread_mutex_lock(&k->lock);
	k->relog = false;
	pthread_mutex_unlock(&k->lock);
	marks_move(&k->told, &k->pending);
	marks_drop(&k->pending);
	return worst;
}

static void kvm_ring_close(struct source *s)
{
	struct kvm_ring *k = (struct kvm_ring *)s;

	if (k == NULL)
		return;
	if (k->told.words != NULL && k->pending.words != NULL)
		kvm_ring_stop(s, NULL);
	for (unsigned i = 0; i < k->n; i++)
		munmap(k->rings[i].e, k->rings[i].size * ENTRY_BYTES);
	log_views_fini(&k->views);
	marks_fini(&k->told);
	marks_fini(&k->pending);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

const struct source_ops source_kvm_ring = {
	.name = "kvm-ring",
	.open = kvm_ring_open,
	.info = kvm_ring_info,
	.start = kvm_ring_start,
	.look = kvm_ring_look,
	.arm = kvm_ring_arm,
	.put_back = kvm_ring_put_back,
	.stop = kvm_ring_stop,
	.close = kvm_ring_close,
};
