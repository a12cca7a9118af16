// SPDX-License-Identifier: BSD-3-Clause
// The doctor's check of one QEMU (--qmp): whether its guest can be moved, and each reason why not.
// The same reasons make a migration refuse; moreover the tracker is tried here, which leaves the
// QEMU as it was. Run by godwit's only thread.

#include "doctor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu.h"
#include "source.h"
#include "unit.h"

#define QMP_MS 5000

/* False, and told: its guest can't be tracked. */
static bool try_tracker(struct doctor *d, struct qemu *u)
{
	struct attach_ram ram[ATTACH_VIEWS];
	unsigned n = qemu_mappings(u, ram, ATTACH_VIEWS);
	struct source_config c = {.vm_fd = -1};
	struct region_map *map = malloc(sizeof(*map));
	struct source *source = NULL;
	struct err e = {0};
	int rc;

	if (map == NULL) {
		doctor_row(d, DOCTOR_PROBLEM, "tracker", NULL, "out of memory");
		return false;
	}
	region_map_init(map);
	c.map = map;
	rc = qemu_map_ram(u, map, &e);
	if (rc == 0)
		rc = attach_open(&c.attach, NULL, u->pid, u->pidfd, ram, n, &e);
	if (rc == 0)
		rc = source_pagemap_scan.open(&source, &c, &e);
	if (rc < 0)
		doctor_row(d, DOCTOR_PROBLEM, "tracker", NULL, "%s", e.text);
	else
		doctor_row(d, DOCTOR_GOOD, "tracker", NULL,
			"writes are seen; one thread of QEMU stood still for %.2f ms",
			(double)attach_stopped_ns(c.attach) / 1e6);
	if (source != NULL)
		source->ops->close(source);
	attach_close(c.attach);
	region_map_close(map);
	free(map);
	return rc == 0;
}

static void tell_ram(struct doctor *d, const struct qemu *u)
{
	for (unsigned i = 0; i < u->nram; i++) {
		const struct qemu_ram *r = &u->ram[i];
		char size[UNIT_TEXT], page[UNIT_TEXT];

		unit_put_bytes(r->bytes, size);
		if (r->file < 0)
			continue;
		unit_put_bytes(u->files[r->file].page_bytes, page);
		doctor_row(d, DOCTOR_NOTE, r->id, NULL, "%s in pages of %s, %s", size, page,
			u->files[r->file].path);
	}
}

static void look(struct doctor *d, struct qemu *u, const struct vmm_where *where)
{
	struct findings *f = calloc(1, sizeof(*f));
	bool waits = strcmp(u->status, "inmigrate") == 0;
	struct err e = {0};
	int rc = f != NULL ? qemu_find_ram(u, &e) : err_set(&e, ENOMEM, "out of memory");

	if (rc == 0)
		rc = qemu_check(u, where, f, &e);
	if (rc < 0) {
		doctor_row(d, DOCTOR_PROBLEM, "QEMU", NULL, "%s", e.text);
		free(f);
		return;
	}
	doctor_row(d, DOCTOR_NOTE, "QEMU", NULL, "%s, process %d, version %u.%u.%u, %s, %s",
		u->name, (int)u->pid, qmp_version(u->qmp) / 10000, qmp_version(u->qmp) / 100 % 100,
		qmp_version(u->qmp) % 100, u->kvm ? "KVM" : "without KVM", u->status);
	tell_ram(d, u);
	for (unsigned i = 0; i < f->n; i++)
		doctor_row(d, DOCTOR_PROBLEM, f->f[i].name, f->f[i].cure, "%s", f->f[i].text);
	if (f->n == 0 && (waits || try_tracker(d, u)))
		doctor_row(d, DOCTOR_GOOD, "guest", NULL, "%s",
			waits ? "one can come" : "can be moved");
	free(f);
}

void doctor_qemu(struct doctor *d)
{
	struct vmm_where where;
	struct qemu u;
	struct err e;

	if (d->options == NULL || !option_given(d->options, "qmp"))
		return;
	where = (struct vmm_where){.driver = VMM_QEMU,
		.pid = (int)option_number(d->options, "pid"),
		.cached_disks = option_number(d->options, "disk-cache") == 1};
	snprintf(where.socket, sizeof(where.socket), "%s", option_text(d->options, "qmp"));
	if (qemu_open(&u, &where, QMP_MS, -1, &e) < 0)
		doctor_row(d, DOCTOR_PROBLEM, "QEMU", NULL, "%s", e.text);
	else
		look(d, &u, &where);
	qemu_close(&u);
}
