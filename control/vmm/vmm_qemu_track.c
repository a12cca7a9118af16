// SPDX-License-Identifier: BSD-3-Clause
// The dirty source of an unmodified QEMU: pagemap-scan on its RAM mappings, from outside. Run by
// its driver's thread. Disks that would write past it are switched to the page cache before.

#include "vmm_qemu.h"

#include "clock.h"
#include "qemu_disk.h"

#include <errno.h>
#include <stdlib.h>

/* Nothing of the process reads past the page cache any more. */
static int check_cached(struct vmm_qemu *q, struct err *e)
{
	struct findings *f = calloc(1, sizeof(*f));
	int rc = f != NULL ? qemu_check_tracking(&q->qemu, true, f, e)
			   : err_set(e, ENOMEM, "out of memory");

	if (rc == 0 && f->n > 0)
		rc = err_set(e, ENOTSUP, "%s", f->f[0].text);
	free(f);
	return rc;
}

/* Law 2: such a disk's reads land in pinned pages, whenever they land. Reopening waits for those
 * under way. */
static int cache_disks(struct vmm_qemu *q, struct err *e)
{
	json_t *nodes = NULL, *node;
	size_t i;
	int rc = qemu_direct_nodes(&q->qemu, &nodes, e);

	if (rc == 0 && json_array_size(nodes) > 0) {
		q->undo_disks = json_array();
		json_array_foreach(nodes, i, node)
		{
			char line[QEMU_DIRECT_LINE];

			qemu_direct_line(json_string_value(node), true, line);
			json_array_append_new(q->undo_disks,
				json_pack("{s:s, s:{s:s}}", "execute", "human-monitor-command",
					"arguments", "command-line", line));
		}
		json_decref(q->vmm.direct);
		q->vmm.direct = json_deep_copy(nodes);
		rc = vmm_qemu_secure(q, e);
		if (rc == 0)
			rc = qemu_set_direct(&q->qemu, nodes, false, e);
	}
	json_decref(nodes);
	return rc == 0 ? check_cached(q, e) : rc;
}

static int open_source(struct vmm_qemu *q, struct err *e)
{
	struct attach_ram ram[ATTACH_VIEWS];
	unsigned n = qemu_mappings(&q->qemu, ram, ATTACH_VIEWS);
	struct source_config c = {.map = &q->vmm.map, .vm_fd = -1};
	int rc = attach_open(&q->attach, q->qemu.by, q->qemu.pid, q->qemu.pidfd, ram, n, e);

	if (rc < 0)
		return rc;
	c.attach = q->attach;
	q->unarmed = true;
	return source_pagemap_scan.open(&q->source, &c, e);
}

int vmm_qemu_track(struct vmm_qemu *q, struct vmm_answer *answer, struct err *e)
{
	struct source_info info;
	int rc = 0;

	if (q->source == NULL) {
		rc = vmm_qemu_secure(q, e);
		if (rc == 0 && q->where.cached_disks)
			rc = cache_disks(q, e);
		if (rc == 0)
			rc = open_source(q, e);
	}
	if (rc == 0)
		rc = q->source->ops->start(q->source, e);
	if (rc < 0)
		return rc;
	q->source->ops->info(q->source, &info);
	answer->a = info.starts_all_dirty;
	answer->b = info.granule_bytes;
	return 0;
}

void vmm_qemu_drop_tracker(struct vmm_qemu *q)
{
	if (q->source != NULL)
		q->source->ops->close(q->source);
	attach_close(q->attach);
	q->source = NULL;
	q->attach = NULL;
}

void vmm_qemu_untrack(struct vmm_qemu *q, struct err *warn)
{
	vmm_qemu_drop_tracker(q);
	/* A fenced guest's disks are the target's. What can't be put back now the keeper tries
	 * again. */
	if (q->undo_disks == NULL || q->state == GODWIT_FENCED ||
		qemu_set_direct(&q->qemu, q->vmm.direct, true, warn) < 0)
		return;
	json_decref(q->undo_disks);
	q->undo_disks = NULL;
	vmm_qemu_secure(q, NULL);
}

static int need_source(const struct vmm_qemu *q, struct err *e)
{
	return q->source != NULL ? 0 : err_set(e, EINVAL, "tracking is not on");
}

int vmm_qemu_look(struct vmm_qemu *q, bool last, struct vmm_answer *answer, struct err *e)
{
	uint64_t t0 = clock_ns();
	int64_t pages = need_source(q, e);
	bool first = q->unarmed && !last;

	/* Pass 0 walks all that is populated, whatever a look says; and looking consumes nothing,
	 * so what is not shown now is shown by the next look, or by arming. */
	q->unarmed = false;
	if (pages == 0 && !first)
		pages = q->source->ops->look(q->source, q->vmm.out, last, e);
	if (pages < 0)
		return (int)pages;
	answer->a = (uint64_t)pages;
	answer->b = clock_ns() - t0;
	return 0;
}

int vmm_qemu_arm(
	struct vmm_qemu *q, uint64_t first, uint64_t n, struct vmm_answer *answer, struct err *e)
{
	int64_t pages = need_source(q, e);

	q->unarmed = false;
	if (pages == 0)
		pages = q->source->ops->arm(
			q->source, first, n, q->vmm.in + first, q->vmm.out + first, e);
	if (pages < 0)
		return (int)pages;
	answer->a = (uint64_t)pages;
	return 0;
}

int vmm_qemu_put_back(struct vmm_qemu *q, uint64_t first, uint64_t n, struct err *e)
{
	int rc = need_source(q, e);

	if (rc == 0)
		q->source->ops->put_back(q->source, first, n, q->vmm.in + first);
	return rc;
}
