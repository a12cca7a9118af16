// SPDX-License-Identifier: BSD-3-Clause
// Memory for a guest that is to come. Reads /proc and /sys; run by the control loop before a
// session copies anything.

#include "reserve.h"

#include <errno.h>
#include <inttypes.h>
#include <numa.h>
#include <numaif.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>

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
static uint64_t group_left(const struct cgroup_kind *k, const char *group)
{
	char path[640];
	uint64_t most, now, cache = UINT64_MAX;
	FILE *f;

	snprintf(path, sizeof(path), "%s%s/%s", k->mount, group, k->most);
	most = read_number(path);
	snprintf(path, sizeof(path), "%s%s/%s", k->mount, group, k->now);
	now = read_number(path);
	if (most == UINT64_MAX || now == UINT64_MAX)
		return UINT64_MAX;
	snprintf(path, sizeof(path), "%s%s/memory.stat", k->mount, group);
	f = fopen(path, "re");
	while (f != NULL && fgets(path, sizeof(path), f) != NULL)
		if (sscanf(path, "inactive_file %" SCNu64, &cache) == 1)
			break;
	if (f != NULL)
		fclose(f);
	return less(most, cache == UINT64_MAX ? now : less(now, cache));
}

/* What the memory control group of this process, and each group around it, may still take. */
static uint64_t cgroup_left(void)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	uint64_t left = UINT64_MAX;
	char line[512];

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		for (unsigned i = 0; i < sizeof(cgroup_kinds) / sizeof(cgroup_kinds[0]); i++) {
			const struct cgroup_kind *k = &cgroup_kinds[i];
			char *group = line + strspn(line, "0123456789"), *cut;

			if (strncmp(group, k->line, strlen(k->line)) != 0)
				continue;
			group += strlen(k->line);
			for (; (cut = strrchr(group, '/')) != NULL; *cut = '\0') {
				uint64_t here = group_left(k, cut[1] == '\0' ? "" : group);

				left = here < left ? here : left;
			}
		}
	}
	if (f != NULL)
		fclose(f);
	return left;
}

static int too_little(struct err *e, const char *where, uint64_t need, uint64_t have)
{
	return err_set(e, ENOMEM,
		"the guest needs %llu MiB and %s has %llu MiB; free memory there or choose another "
		"host",
		(unsigned long long)(need >> 20), where, (unsigned long long)(have >> 20));
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

/* Page cache can be dropped, so MemFree alone would refuse too much. */
static int check_node(const struct region *r, uint64_t need, struct err *e)
{
	char path[96], where[48];
	uint64_t left, cache;

	if (r->node < 0)
		return 0;
	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", r->node);
	snprintf(where, sizeof(where), "its NUMA node %d", r->node);
	left = meminfo(path, "MemFree");
	cache = meminfo(path, "Inactive(file)");
	if (left != UINT64_MAX)
		left += cache != UINT64_MAX ? cache : 0;
	return need > left ? too_little(e, where, need, left) : 0;
}

/* The VMM reserves huge pages when it maps them, but not on a node, and not with MAP_NORESERVE. */
static int check_huge(const struct region *r, uint64_t need, struct err *e)
{
	unsigned kib = r->page_bytes / 1024;
	char path[128], where[96];
	uint64_t free_pages;

	if (r->node >= 0)
		snprintf(path, sizeof(path),
			"/sys/devices/system/node/node%d/hugepages/hugepages-%ukB/free_hugepages",
			r->node, kib);
	else
		snprintf(path, sizeof(path),
			"/sys/kernel/mm/hugepages/hugepages-%ukB/free_hugepages", kib);
	free_pages = read_number(path);
	if (free_pages == UINT64_MAX || need <= free_pages * r->page_bytes)
		return 0;
	if (r->node >= 0)
		snprintf(where, sizeof(where), "the pool of %u KiB huge pages of NUMA node %d", kib,
			r->node);
	else
		snprintf(where, sizeof(where), "the pool of %u KiB huge pages", kib);
	return too_little(e, where, need, free_pages * r->page_bytes);
}

/* A memfd has no file system of its own: its f_blocks is 0 (no limit). */
static int check_file_system(const struct region *r, uint64_t need, struct err *e)
{
	struct statfs fs;
	uint64_t room;

	if (fstatfs(r->fd, &fs) != 0 || fs.f_blocks == 0)
		return 0;
	room = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
	return need > room ? too_little(e, "the file system of its RAM file", need, room) : 0;
}

uint64_t reserve_booking(const struct region_map *map, uint64_t bytes)
{
	uint64_t have = 0;

	for (unsigned i = 0; i < map->n; i++) {
		if (map->r[i].page_bytes == PAGE_BYTES)
			have += allocated(&map->r[i]);
		else
			bytes = less(bytes, map->r[i].bytes);
	}
	return less(bytes, have);
}

int reserve_check(const struct region_map *map, uint64_t bytes, uint64_t promised, struct err *e)
{
	uint64_t available = meminfo("/proc/meminfo", "MemAvailable");
	uint64_t group = cgroup_left();
	uint64_t need = reserve_booking(map, bytes);
	int rc = 0;

	for (unsigned i = 0; i < map->n && rc == 0; i++) {
		const struct region *r = &map->r[i];
		/* At least this much of it, however the populated bytes are spread. */
		uint64_t least = less(bytes, map->bytes - r->bytes);

		least = less(least, allocated(r));
		if (r->page_bytes != PAGE_BYTES) {
			rc = check_huge(r, least, e);
			continue;
		}
		rc = check_node(r, least, e);
		if (rc == 0)
			rc = check_file_system(r, least, e);
	}
	if (rc < 0 || need == 0)
		return rc;
	need += MARGIN_BYTES;
	if (need > less(available, promised))
		return too_little(e, "this host, less what other sessions were promised,", need,
			less(available, promised));
	if (need > less(group, promised))
		return too_little(e, "the daemon's control group", need, less(group, promised));
	return 0;
}
