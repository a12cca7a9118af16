// SPDX-License-Identifier: BSD-3-Clause
// Dirty source "kvm-log": KVM's dirty log of each slot. Run by the agent's thread in the VMM's
// process; KVM answers -EIO to any other.
//
// With manual protect, look gets each slot's log without clearing it, and arm clears just the bits
// that were seen and are wanted. With INITIALLY_SET too, starting costs the guest nothing: all is
// reported dirty until it was armed for the first time, holes for ever (the daemon masks them).
// Without manual protect (legacy) a get clears all, so what it returned stays pending here until it
// was armed (law 1).

#include "ioctl.h"
#include "log_views.h"
#include "marks.h"
#include "source.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

struct kvm_log {
	struct source source;
	struct source_config c;
	uint64_t protect; /* KVM_DIRTY_LOG_* in use; 0: legacy */
	struct marks pending;
	struct log_views views;
};

static void kvm_log_close(struct source *s);
static int kvm_log_stop(struct source *s, struct err *e);

/* Asks the VM for the best way that it offers; no asks for the legacy one. */
static int set_protect(struct kvm_log *k, bool manual, struct err *e)
{
	int offered = ioctl_val(k->c.vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2};
	int rc;

	if (offered < 0)
		return err_sys(e, -offered, "the VM fd %d does not answer as KVM's", k->c.vm_fd);
	if (manual)
		cap.args[0] = (uint64_t)offered &
			      (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
	if (offered == 0)
		return 0;
	rc = ioctl_ptr(k->c.vm_fd, KVM_ENABLE_CAP, &cap);
	if (rc < 0)
		return err_sys(e, -rc, "KVM refuses manual dirty-log protection");
	k->protect = cap.args[0];
	return 0;
}

static int open_as(struct source **s, const struct source_ops *ops, const struct source_config *c,
	bool manual, struct err *e)
{
	struct kvm_log *k;
	int rc;

	if (c->vm_fd < 0)
		return err_set(e, EINVAL,
			"kvm-log needs a KVM VM; give the library the VM fd, or choose "
			"pagemap-scan");
	k = calloc(1, sizeof(*k));
	if (k == NULL)
		return err_set(e, ENOMEM, "out of memory");
	k->source.ops = ops;
	k->c = *c;
	rc = set_protect(k, manual, e);
	if (k->protect == 0)
		k->source.ops = &source_kvm_log_legacy; /* so that its name says what it is */
	if (rc == 0)
		rc = log_views_init(&k->views, c, e);
	if (rc == 0 && marks_init(&k->pending, c->map->nchunks) < 0)
		rc = err_set(e, ENOMEM, "out of memory for the pending set");
	if (rc < 0) {
		kvm_log_close(&k->source);
		return rc;
	}
	*s = &k->source;
	return 0;
}

static int kvm_log_open(struct source **s, const struct source_config *c, struct err *e)
{
	return open_as(s, &source_kvm_log, c, true, e);
}

static int kvm_legacy_open(struct source **s, const struct source_config *c, struct err *e)
{
	return open_as(s, &source_kvm_log_legacy, c, false, e);
}

static void kvm_log_info(const struct source *s, struct source_info *info)
{
	const struct kvm_log *k = (const struct kvm_log *)s;

	info->granule_bytes = PAGE_BYTES;
	info->writers = SOURCE_SEES_VCPU;
	info->starts_all_dirty = (k->protect & KVM_DIRTY_LOG_INITIALLY_SET) != 0;
	info->mode = k->protect == 0          ? "get and clear"
		     : info->starts_all_dirty ? "manual protect, initially set"
					      : "manual protect";
}

static int kvm_log_start(struct source *s, struct err *e)
{
	struct kvm_log *k = (struct kvm_log *)s;
	int rc = log_views_on(&k->views, e);

	if (rc < 0)
		kvm_log_stop(s, NULL);
	return rc;
}

static int64_t kvm_log_look(struct source *s, uint64_t *out, bool last, struct err *e)
{
	struct kvm_log *k = (struct kvm_log *)s;
	int64_t pages = 0;

	(void)last;
	for (unsigned i = 0; i < k->views.n; i++) {
		struct log_view *lv = &k->views.v[i];
		int rc = k->protect == 0 ? log_view_take(lv, &k->pending) : slot_log_get(&lv->log);

		if (rc < 0)
			return err_sys(e, -rc,
				"region %s: cannot get the dirty log of slot %u (ENXIO: the VM "
				"uses the dirty ring; EIO: not called in the VMM's process)",
				lv->r->name, lv->v->slot);
		if (k->protect != 0)
			pages += slot_log_show(&lv->log, out + lv->r->first_chunk);
	}
	return pages + marks_show(&k->pending, out);
}

static int64_t kvm_log_arm(struct source *s, uint64_t first, uint64_t n, const uint64_t *want,
	uint64_t *out, struct err *e)
{
	struct kvm_log *k = (struct kvm_log *)s;

	(void)out;
	marks_clear_words(&k->pending, first, n, want);
	for (unsigned i = 0; k->protect != 0 && i < k->views.n; i++) {
		struct log_view *kv = &k->views.v[i];
		uint64_t from = first > kv->r->first_chunk ? first : kv->r->first_chunk;
		uint64_t end = kv->r->first_chunk + kv->r->nchunks;
		int rc;

		if (end > first + n)
			end = first + n;
		if (from >= end)
			continue;
		rc = slot_log_clear(
			&kv->log, from - kv->r->first_chunk, end - from, want + (from - first));
		if (rc < 0)
			return err_sys(e, -rc, "region %s: cannot clear the dirty log of slot %u",
				kv->r->name, kv->v->slot);
	}
	return 0;
}

static void kvm_log_put_back(struct source *s, uint64_t first, uint64_t n, const uint64_t *words)
{
	struct kvm_log *k = (struct kvm_log *)s;

	for (uint64_t c = 0; c < n; c++)
		marks_or(&k->pending, first + c, words[c]);
}

static int kvm_log_stop(struct source *s, struct err *e)
{
	struct kvm_log *k = (struct kvm_log *)s;
	int worst = log_views_off(&k->views, e);

	marks_drop(&k->pending);
	return worst;
}

static void kvm_log_close(struct source *s)
{
	struct kvm_log *k = (struct kvm_log *)s;

	if (k == NULL)
		return;
	if (k->pending.words != NULL)
		kvm_log_stop(s, NULL);
	log_views_fini(&k->views);
	marks_fini(&k->pending);
	free(k);
}

#define KVM_LOG_OPS                                                                                \
	.info = kvm_log_info, .start = kvm_log_start, .look = kvm_log_look, .arm = kvm_log_arm,    \
	.put_back = kvm_log_put_back, .stop = kvm_log_stop, .close = kvm_log_close

const struct source_ops source_kvm_log = {.name = "kvm-log", .open = kvm_log_open, KVM_LOG_OPS};
const struct source_ops source_kvm_log_legacy = {
	.name = "kvm-log-legacy", .open = kvm_legacy_open, KVM_LOG_OPS};
