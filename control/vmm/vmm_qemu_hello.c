// SPDX-License-Identifier: BSD-3-Clause
// Meeting a QEMU as its driver: who it is, what stands against it, its RAM, the planes. Run by the
// driver's thread; but for a word to a QEMU that waits for a guest it changes nothing.

#include "qemu_disk.h"
#include "vcpus.h"
#include "vmm_qemu.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int make_planes(struct vmm *v, struct err *e)
{
	size_t bytes = 2 * v->map.nchunks * sizeof(uint64_t);

	v->planes_fd = memfd_create("godwit-planes", MFD_CLOEXEC);
	if (v->planes_fd < 0 || ftruncate(v->planes_fd, (off_t)bytes) < 0)
		return err_sys(e, errno, "cannot make the bitmaps");
	v->out = mmap(
		NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, v->planes_fd, 0);
	if (v->out == MAP_FAILED) {
		v->out = NULL;
		return err_sys(e, errno, "cannot map the bitmaps");
	}
	v->in = v->out + v->map.nchunks;
	return 0;
}

/* The first reason not to move this guest, and how many more there are. */
static int refuse(const struct vmm_qemu *q, const struct findings *f, struct err *e)
{
	if (f->n == 0)
		return 0;
	if (f->n == 1)
		return err_set(e, ENOTSUP, "%.180s; cure: %.120s", f->f[0].text, f->f[0].cure);
	return err_set(e, ENOTSUP, "%.130s; cure: %.80s. %u more: see `godwit doctor --qmp %.40s`",
		f->f[0].text, f->f[0].cure, f->n - 1 + f->left_out, q->where.socket);
}

static void introduce(struct vmm_qemu *q)
{
	struct agent_hello *h = &q->vmm.hello;
	unsigned version = qmp_version(q->qemu.qmp);

	snprintf(h->name, sizeof(h->name), "%s", q->qemu.name);
	snprintf(h->tracker, sizeof(h->tracker), "pagemap-scan");
	snprintf(h->mode, sizeof(h->mode), "userfaultfd, attached");
	snprintf(h->hypervisor, sizeof(h->hypervisor), "QEMU %u.%u.%u, %s", version / 10000,
		version / 100 % 100, version % 100, q->qemu.kvm ? "kvm" : "tcg");
	h->nregions = q->vmm.map.n;
	h->pid = (uint32_t)q->qemu.pid;
	h->granule_bytes = PAGE_BYTES;
	q->vmm.state = q->state;
	q->vmm.hint_flags = q->qemu.balloon ? 0 : AGENT_HINT_KEEPS;
}

/* QEMU names its threads only where it was told to (-name debug-threads=on), but tells their ids.
 */
static int find_vcpus(struct vmm_qemu *q, struct err *e)
{
	struct vmm *v = &q->vmm;
	json_t *cpus = NULL, *cpu;
	size_t i, n;
	int rc = qmp_call(q->qemu.qmp, "query-cpus-fast", NULL, &cpus, e);

	if (rc < 0)
		return rc;
	n = json_array_size(cpus) < VCPUS_MOST ? json_array_size(cpus) : VCPUS_MOST;
	v->vcpus = calloc(n + 1, sizeof(*v->vcpus));
	json_array_foreach(cpus, i, cpu) if (v->vcpus != NULL && i < n) v->vcpus[v->nvcpus++] =
		(pid_t)json_integer_value(json_object_get(cpu, "thread-id"));
	json_decref(cpus);
	v->pid = q->qemu.pid;
	return 0;
}

int vmm_qemu_hello(struct vmm_qemu *q, struct err *e)
{
	struct qemu *u = &q->qemu;
	_cleanup_(free_ptr) struct findings *f = calloc(1, sizeof(*f));
	int rc = qemu_open(u, &q->where, q->deadline_ms, q->quit_fd, e);

	if (rc < 0 || f == NULL)
		return rc < 0 ? rc : err_set(e, ENOMEM, "out of memory");
	qmp_on_event(u->qmp, vmm_qemu_event, q);
	q->vmm.pidfd = fcntl(u->pidfd, F_DUPFD_CLOEXEC, 0);
	q->state = strcmp(u->status, "inmigrate") == 0 ? GODWIT_INCOMING : GODWIT_RUNNING;
	/* While it waits for a guest this says: do not start it once it has come. */
	if (q->state == GODWIT_INCOMING)
		rc = qmp_call(u->qmp, "stop", NULL, NULL, e);
	if (rc == 0)
		rc = qemu_find_ram(u, e);
	if (rc == 0)
		rc = qemu_check(u, &q->where, f, e);
	if (rc == 0)
		rc = refuse(q, f, e);
	if (rc == 0 && q->state == GODWIT_RUNNING)
		rc = keeper_check(e);
	if (rc == 0)
		rc = qemu_describe(u, &q->vmm.about, e);
	if (rc == 0 && q->where.shared_disks)
		json_object_set_new(q->vmm.about, "shared_disks", json_true());
	if (rc == 0)
		rc = qemu_map_ram(u, &q->vmm.map, e);
	if (rc == 0)
		rc = find_vcpus(q, e);
	if (rc == 0)
		rc = make_planes(&q->vmm, e);
	if (rc == 0)
		introduce(q);
	return rc;
}

/* Memory, devices and disks may have come since the guest was looked at: memory would be in no
 * region, another disk was not compared with the target's, and what is plugged in now may write
 * where nothing sees it. Disks that were cured must still be. */
int vmm_qemu_check_again(struct vmm_qemu *q, struct err *e)
{
	_cleanup_(free_ptr) struct findings *f = calloc(1, sizeof(*f));
	struct vmm_where where = q->where;
	int rc = f != NULL ? 0 : err_set(e, ENOMEM, "out of memory");

	where.cached_disks = false;
	if (rc == 0)
		rc = qemu_check(&q->qemu, &where, f, e);
	if (rc == 0)
		rc = refuse(q, f, e);
	if (rc == 0 && q->qemu.balloon && (q->vmm.hint_flags & AGENT_HINT_KEEPS) != 0)
		rc = err_set(e, EBUSY,
			"a balloon was plugged in while the guest was moved, and its memory was "
			"taken for memory that stays: try again");
	if (rc == 0)
		rc = qemu_check_disks_stay(&q->qemu, json_object_get(q->vmm.about, "disks"), e);
	return rc == 0 ? qemu_check_plugged(&q->qemu, e) : rc;
}
