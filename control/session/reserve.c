// SPDX-License-Identifier: BSD-3-Clause
// Memory for a guest that is to come. Reads /proc and /sys; run by the control loop before a
// session copies anything. Regions that take from one place are summed, and so are guests: each
// alone may fit where all of them don't.

#include "reserve.h"

#include <errno.h>
#include <inttypes.h>
#include <numa.h>
#include <numaif.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#define NEXT_BYTES   (UINT64_C(2) << 20)
#define MARGIN_BYTES (UINT64_C(64) << 20) /* for page tables and the daemon itself */

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* A value of a "Name:   123 kB" line, in bytes; UINT64_MAX when it is not there. */
static uint64_t meminfo(const char *path, const char *name)
{
	FILE *f = fopen(path, "re");
	uint64_t bytes = UINT64_MAX;
	char line[256];

	if (f == NULL)
		return bytes;
	while (fgets(line, sizeof(line), f) != NULL) {
		char *at = strstr(line, name);
		unsigned long long kib;

		if (at != NULL && sscanf(at + strlen(name), ": %llu", &kib) == 1) {
			bytes = (uint64_t)kib * 1024;
			break;
		}
	}
	fclose(f);
	return bytes;
}

static uint64_t read_number(const char *path)
{
	FILE *f = fopen(path, "re");
	unsigned long long v;
	int n;

	if (f == NULL)
		return UINT64_MAX;
	n = fscanf(f, "%llu", &v);
	fclose(f);
	return n == 1 ? v : UINT64_MAX; /* "max" is no number: no limit */
}

/* Where a version of control groups keeps what this needs. */
static const struct cgroup_kind {
	const char *line; /* of /proc/self/cgroup, after the number */
	const char *mount, *most, *now;
} cgroup_kinds[] = {
	{"::", "/sys/fs/cgroup", "memory.max", "memory.current"},
	{":memory:", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"},
};

/* What one group may still take; page cache that is not in use can be dropped. */
static uint64_t group_left(const char *root, const struct cgroup_kind *k, const char *group)
{
	char path[768];
	uint64_t most, now, cache = UINT64_MAX;
	FILE *f;

	snprintf(path, sizeof(path), "%s%s%s/%s", root, k->mount, group, k->most);
	most = read_number(path);
	snprintf(path, sizeof(path), "%s%s%s/%s", root, k->mount, group, k->now);
	now = read_number(path);
	if (most == UINT64_MAX || now == UINT64_MAX)
		return UINT64_MAX;
	snprintf(path, sizeof(path), "%s%s%s/memory.stat", root, k->mount, group);
	f = fopen(path, "re");
	while (f != NULL && fgets(path, sizeof(path), f) != NULL)
		if (sscanf(path, "inactive_file %" SCNu64, &cache) == 1)
			break;
	if (f != NULL)
		fclose(f);
	return less(most, cache == UINT64_MAX ? now : less(now, cache));
}

/* What the memory control group of this process, and each group around it, may still take. */
static uint64_t cgroup_left(const char *root)
{
	uint64_t left = UINT64_MAX;
	char line[512];
	FILE *f;

	snprintf(line, sizeof(line), "%s/proc/self/cgroup", root);
	f = fopen(line, "re");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		for (unsigned i = 0; i < sizeof(cgroup_kinds) / sizeof(cgroup_kinds[0]); i++) {
			const struct cgroup_kind *k = &cgroup_kinds[i];
			char *group = line + strspn(line, "0123456789"), *cut;

			if (strncmp(group, k->line, strlen(k->line)) != 0)
				continue;
			group += strlen(k->line);
			for (; (cut = strrchr(group, '/')) != NULL; *cut = '\0') {
				uint64_t here = group_left(root, k, cut[1] == '\0' ? "" : group);

				left = here < left ? here : left;
			}
		}
	}
	if (f != NULL)
		fclose(f);
	return left;
}

/* What the region's file has already; it is given back, or used as it is. */
static uint64_t allocated(const struct region *r)
{
	struct stat st;

	return fstat(r->fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

void reserve_find_nodes(struct region_map *map)
{
	if (numa_available() < 0)
		return;
	for (unsigned i = 0; i < map->n; i++) {
		struct bitmask *nodes = numa_allocate_nodemask();
		int mode;

		map->r[i].node = -1;
		if (nodes == NULL)
			return;
		if (get_mempolicy(&mode, nodes->maskp, nodes->size + 1, map->r[i].base,
			    MPOL_F_ADDR) == 0 &&
			mode == MPOL_BIND && numa_bitmask_weight(nodes) == 1)
			for (unsigned n = 0; n < nodes->size; n++)
				if (numa_bitmask_isbitset(nodes, n))
					map->r[i].node = (int)n;
		numa_free_nodemask(nodes);
	}
}

static bool same_place(const struct reserve_place *a, const struct reserve_place *b)
{
	return a->kind == b->kind && a->node == b->node && a->page_bytes == b->page_bytes &&
	       a->dev == b->dev;
}

static struct reserve_place *place_of(struct reserve *r, const struct reserve_place *like)
{
	struct reserve_place *p = r->place;

	for (; p < r->place + r->n; p++)
		if (same_place(p, like))
			return p;
	r->n++;
	*p = *like;
	return p;
}

static void take(struct reserve *r, const struct reserve_place *like, const struct region *from)
{
	struct reserve_place *p = place_of(r, like);

	p->region_bytes += from->bytes;
	p->there_bytes += allocated(from);
}

/* A memfd has no file system of its own: its f_blocks is 0 (no limit). */
static bool has_file_system(const struct region *r, dev_t *dev)
{
	struct statfs fs;
	struct stat st;

	if (fstatfs(r->fd, &fs) != 0 || fs.f_blocks == 0 || fstat(r->fd, &st) != 0)
		return false;
	*dev = st.st_dev;
	return true;
}

void reserve_needs(struct reserve *r, const struct region_map *map, uint64_t bytes)
{
	r->n = 0;
	for (unsigned i = 0; i < map->n; i++) {
		const struct region *from = &map->r[i];
		struct reserve_place like = {.node = -1, .fd = from->fd};

		if (from->page_bytes != PAGE_BYTES) {
			like.kind = RESERVE_HUGE;
			like.node = from->node;
			like.page_bytes = from->page_bytes;
			take(r, &like, from);
			continue;
		}
		take(r, &like, from); /* the host */
		if (has_file_system(from, &like.dev)) {
			like.kind = RESERVE_FILES;
			take(r, &like, from);
		}
		if (from->node >= 0)
			take(r, &(struct reserve_place){.kind = RESERVE_NODE, .node = from->node},
				from);
	}
	/* What the regions elsewhere can hold may be all there. */
	for (unsigned i = 0; i < r->n; i++) {
		struct reserve_place *p = &r->place[i];

		p->need_bytes = less(less(bytes, map->bytes - p->region_bytes), p->there_bytes);
	}
}

void reserve_promise(struct reserve *r, const struct region_map *map, uint64_t bytes)
{
	struct reserve other;

	reserve_needs(&other, map, bytes);
	for (unsigned i = 0; i < r->n; i++)
		for (unsigned k = 0; k < other.n; k++)
			if (same_place(&other.place[k], &r->place[i]))
				r->place[i].promised_bytes += other.place[k].need_bytes;
}

/* What is free there; where: what it is called. UINT64_MAX: nobody tells. Page cache can be
 * dropped, so MemFree alone would refuse too much. */
static uint64_t node_left(const char *root, const struct reserve_place *p, char where[96])
{
	uint64_t left, cache;
	char path[256];

	snprintf(path, sizeof(path), "%s/sys/devices/system/node/node%d/meminfo", root, p->node);
	snprintf(where, 96, "its NUMA node %d", p->node);
	left = meminfo(path, "MemFree");
	cache = meminfo(path, "Inactive(file)");
	return left == UINT64_MAX || cache == UINT64_MAX ? left : left + cache;
}

/* The VMM reserves huge pages when it maps them, but not on a node, and not with MAP_NORESERVE. */
static uint64_t huge_left(const char *root, const struct reserve_place *p, char where[96])
{
	unsigned kib = p->page_bytes / 1024;
	char path[256], of[48] = "";
	uint64_t pages;

	if (p->node >= 0)
		snprintf(of, sizeof(of), " of NUMA node %d", p->node);
	if (p->node >= 0)
		snprintf(path, sizeof(path),
			"%s/sys/devices/system/node/node%d/hugepages/hugepages-%ukB/free_hugepages",
			root, p->node, kib);
	else
		snprintf(path, sizeof(path),
			"%s/sys/kernel/mm/hugepages/hugepages-%ukB/free_hugepages", root, kib);
	snprintf(where, 96, "the pool of %u KiB huge pages%s", kib, of);
	pages = read_number(path);
	return pages == UINT64_MAX ? pages : pages * p->page_bytes;
}

static uint64_t files_left(const struct reserve_place *p, char where[96])
{
	struct statfs fs;

	snprintf(where, 96, "the file system of its RAM file");
	return fstatfs(p->fd, &fs) == 0 ? (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize : UINT64_MAX;
}

static uint64_t host_left(const char *root, char where[96])
{
	char path[256];

	snprintf(path, sizeof(path), "%s/proc/meminfo", root);
	snprintf(where, 96, "this host");
	return meminfo(path, "MemAvailable");
}

static int compare(const struct reserve_place *p, uint64_t left, const char *where, struct err *e)
{
	uint64_t need = p->need_bytes + (p->kind == RESERVE_HOST ? MARGIN_BYTES : 0);

	if (p->need_bytes == 0 || left == UINT64_MAX || need <= less(left, p->promised_bytes))
		return 0;
	return err_set(e, ENOMEM,
		"the guest needs %llu MiB and %s has %llu MiB%s; free memory there or choose "
		"another host",
		(unsigned long long)(need >> 20), where,
		(unsigned long long)(less(left, p->promised_bytes) >> 20),
		p->promised_bytes != 0 ? ", less what other sessions were promised" : "");
}

int reserve_check(const struct reserve *r, const char *root, struct err *e)
{
	char where[96] = "";
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < r->n; i++) {
		const struct reserve_place *p = &r->place[i];
		uint64_t left = p->kind == RESERVE_NODE   ? node_left(root, p, where)
				: p->kind == RESERVE_HUGE ? huge_left(root, p, where)
				: p->kind == RESERVE_HOST ? host_left(root, where)
							  : files_left(p, where);

		rc = compare(p, left, where, e);
		if (rc == 0 && p->kind == RESERVE_HOST)
			rc = compare(p, cgroup_left(root), "the daemon's control group", e);
	}
	return rc;
}

int reserve_check_next(const struct region_map *map, const char *root, struct err *e)
{
	struct reserve r;
	unsigned n = 0;

	reserve_needs(&r, map, map->bytes);
	for (unsigned i = 0; i < r.n; i++) {
		const struct reserve_place *p = &r.place[i];
		uint64_t most = p->page_bytes > NEXT_BYTES ? p->page_bytes : NEXT_BYTES;

		/* A host or node that is short of memory finds some, or chooses who ends. */
		if (p->kind != RESERVE_FILES && p->kind != RESERVE_HUGE)
			continue;
		r.place[n] = *p;
		if (p->need_bytes > most)
			r.place[n].need_bytes = most;
		n++;
	}
	r.n = n;
	return reserve_check(&r, root, e);
}
