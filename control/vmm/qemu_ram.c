// SPDX-License-Identifier: BSD-3-Clause
// Where a QEMU's guest has its RAM: its memory backends, the files behind them, and where QEMU maps
// those. QEMU tells the address of each backend itself, so that nothing hangs on the names of
// files. Run by the driver's thread or by godwit doctor.

#include "qemu.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A backend's memory region bears its name, or for older machines its path. */
static bool find_view(const char *mtree, const char *id, uint64_t *gpa, uint64_t *offset)
{
	char path[REGION_NAME + 16];

	snprintf(path, sizeof(path), QEMU_OBJECTS "/%s", id);
	return qemu_view_of(mtree, id, gpa, offset) || qemu_view_of(mtree, path, gpa, offset);
}

/* The type of a backend's object. */
static void ask_type(struct qemu *u, struct qemu_ram *r)
{
	char path[REGION_NAME + 16];
	json_t *type = NULL;

	snprintf(path, sizeof(path), QEMU_OBJECTS "/%s", r->id);
	if (qemu_get(u->qmp, path, "type", &type, NULL) == 0 && json_is_string(type))
		snprintf(r->type, sizeof(r->type), "%.31s", json_string_value(type));
	json_decref(type);
}

static int ask_address(struct qemu *u, struct qemu_ram *r, uint64_t offset, struct err *e)
{
	char line[64], *text;
	uint64_t addr;
	int rc;

	snprintf(line, sizeof(line), "gpa2hva 0x%llx", (unsigned long long)r->gpa);
	rc = qmp_human(u->qmp, line, &text, e);
	if (rc < 0)
		return rc;
	addr = qemu_host_address(text);
	free(text);
	r->addr = addr > offset ? addr - offset : 0;
	return 0;
}

/* One entry of query-memdev. Backends that the machine shows nowhere are no RAM of the guest. */
static int add_backend(struct qemu *u, const json_t *dev, const char *mtree, struct err *e)
{
	const char *id = json_string_value(json_object_get(dev, "id"));
	json_int_t bytes = json_integer_value(json_object_get(dev, "size"));
	struct qemu_ram *r = &u->ram[u->nram];
	uint64_t gpa, offset;

	if (id == NULL || !find_view(mtree, id, &gpa, &offset))
		return 0;
	if (strlen(id) >= sizeof(r->id) || bytes <= 0 || u->nram == REGION_MAX)
		return err_set(e, E2BIG,
			"memory backend %.80s: names of up to %zu bytes and %u backends are "
			"possible",
			id, sizeof(r->id) - 1, REGION_MAX);
	*r = (struct qemu_ram){.bytes = (uint64_t)bytes,
		.share = json_is_true(json_object_get(dev, "share")),
		.gpa = gpa,
		.file = -1};
	strcpy(r->id, id);
	ask_type(u, r);
	u->nram++;
	return ask_address(u, r, offset, e);
}

static int by_gpa(const void *a, const void *b)
{
	const struct qemu_ram *x = a, *y = b;

	return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

/* The file that QEMU maps at the backend's address, all of it. */
static void find_file(struct qemu *u, struct qemu_ram *r)
{
	for (unsigned i = 0; i < u->nfiles; i++)
		for (unsigned k = 0; k < u->files[i].n; k++) {
			const struct attach_ram *m = &u->files[i].ram[k];

			if (r->addr < m->addr || r->addr - m->addr >= m->bytes ||
				m->bytes - (r->addr - m->addr) < r->bytes)
				continue;
			r->file = (int)i;
			r->file_offset = m->offset + (r->addr - m->addr);
			return;
		}
}

static const char *plugged_id(const json_t *device)
{
	const char *id = json_string_value(json_object_get(json_object_get(device, "data"), "id"));

	return id != NULL ? id : "without an id";
}

/* The first of these that the others do not have, or NULL. */
static const json_t *plugged_only_in(const json_t *these, const json_t *others)
{
	const json_t *d, *o;
	size_t i, k;

	json_array_foreach((json_t *)these, i, d)
	{
		bool found = false;

		json_array_foreach((json_t *)others, k, o) found |= json_equal(d, o);
		if (!found)
			return d;
	}
	return NULL;
}

int qemu_check_plugged(struct qemu *u, struct err *e)
{
	const json_t *came, *went;
	json_t *now = NULL;
	int rc = qmp_call(u->qmp, "query-memory-devices", NULL, &now, e);

	if (rc < 0)
		return rc;
	came = plugged_only_in(now, u->plugged);
	went = plugged_only_in(u->plugged, now);
	if (came != NULL)
		rc = err_set(e, EBUSY,
			"memory %.80s came meanwhile, and is in no region of this migration; "
			"migrate again",
			plugged_id(came));
	else if (went != NULL)
		rc = err_set(
			e, EBUSY, "memory %.80s went meanwhile; migrate again", plugged_id(went));
	json_decref(now);
	return rc;
}

int qemu_find_ram(struct qemu *u, struct err *e)
{
	json_t *list = NULL, *dev;
	char *mtree = NULL;
	size_t i;
	int rc = attach_files(u->by, u->pid, &u->files, &u->nfiles, e);

	/* First, so that what comes while the rest is asked counts as come meanwhile. */
	if (rc == 0)
		rc = qmp_call(u->qmp, "query-memory-devices", NULL, &u->plugged, e);
	if (rc == 0)
		rc = qmp_human(u->qmp, "info mtree -f", &mtree, e);
	if (rc == 0)
		rc = qmp_call(u->qmp, "query-memdev", NULL, &list, e);
	json_array_foreach(list, i, dev)
	{
		if (rc == 0)
			rc = add_backend(u, dev, mtree, e);
	}
	json_decref(list);
	free(mtree);
	if (rc < 0)
		return rc;
	qsort(u->ram, u->nram, sizeof(u->ram[0]), by_gpa);
	for (i = 0; i < u->nram; i++)
		find_file(u, &u->ram[i]);
	return 0;
}

int qemu_map_ram(const struct qemu *u, struct region_map *map, struct err *e)
{
	for (unsigned i = 0; i < u->nram; i++) {
		const struct qemu_ram *r = &u->ram[i];
		const struct attach_file *f = r->file >= 0 ? &u->files[r->file] : NULL;
		int fd, rc;

		if (f == NULL || !f->shared || r->file_offset != 0)
			return err_set(e, ENOTSUP,
				"memory backend %s is not at the start of a file that can be "
				"shared; start QEMU with -object "
				"memory-backend-file,id=%s,share=on,mem-path=...",
				r->id, r->id);
		fd = attach_open_file(u->by, u->pid, f, e);
		if (fd < 0)
			return fd;
		rc = region_add(map, r->id, fd, r->bytes, f->page_bytes, e);
		if (rc < 0) {
			close_fd(&fd);
			return rc;
		}
	}
	return map->n > 0 ? 0
			  : err_set(e, ENOTSUP,
				    "QEMU tells of no memory backend that the guest uses; start it "
				    "with -machine memory-backend=ID and -object "
				    "memory-backend-file,id=ID,share=on,...");
}

unsigned qemu_mappings(const struct qemu *u, struct attach_ram *ram, unsigned most)
{
	unsigned n = 0;

	for (unsigned i = 0; i < u->nram; i++) {
		const struct attach_file *f =
			u->ram[i].file >= 0 ? &u->files[u->ram[i].file] : NULL;

		for (unsigned k = 0; f != NULL && k < f->n && n < most; k++) {
			ram[n] = f->ram[k];
			ram[n++].region = i;
		}
	}
	return n;
}
