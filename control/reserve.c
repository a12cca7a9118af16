// SPDX-License-Identifier: BSD-3-Clause
// Memory for a guest that is to come. Reads /proc and /sys; run by the control loop before a
// session copies anything.

#include "reserve.h"

#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>

#define MARGIN_BYTES (UINT64_C(64) << 20) /* for page tables and the daemon itself */

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

/* What the control group of this process (version 2) may still take. */
static uint64_t cgroup_left(void)
{
	char line[512], path[640];
	FILE *f = fopen("/proc/self/cgroup", "re");
	uint64_t most = UINT64_MAX, now;

	if (f == NULL)
		return UINT64_MAX;
	while (fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, "0::", 3) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.max", line + 3);
		most = read_number(path);
		snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.current", line + 3);
		now = read_number(path);
		if (most != UINT64_MAX && now != UINT64_MAX)
			most = most > now ? most - now : 0;
	}
	fclose(f);
	return most;
}

static int too_little(struct err *e, const char *where, uint64_t need, uint64_t have)
{
	return err_set(e, ENOMEM,
		"the guest needs %llu MiB and %s has %llu MiB; free memory there or choose another "
		"host",
		(unsigned long long)(need >> 20), where, (unsigned long long)(have >> 20));
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

static int check_node(const struct region *r, struct err *e)
{
	char path[96], where[48];
	uint64_t left;

	if (r->node < 0 || r->page_bytes != PAGE_BYTES)
		return 0;
	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", r->node);
	snprintf(where, sizeof(where), "its NUMA node %d", r->node);
	/* Page cache can be dropped, so MemFree alone would refuse too much. */
	left = meminfo(path, "MemFree");
	if (left != UINT64_MAX) {
		uint64_t cache = meminfo(path, "Inactive(file)");

		left += cache != UINT64_MAX ? cache : 0;
	}
	return r->bytes > left ? too_little(e, where, r->bytes, left) : 0;
}

int reserve_check(const struct region_map *map, uint64_t bytes, uint64_t promised, struct err *e)
{
	uint64_t available = meminfo("/proc/meminfo", "MemAvailable");
	uint64_t group = cgroup_left();
	uint64_t huge = 0, need;

	for (unsigned i = 0; i < map->n; i++) {
		struct statfs fs;

		if (map->r[i].page_bytes != PAGE_BYTES) {
			huge += map->r[i].bytes;
			continue;
		}
		if (check_node(&map->r[i], e) < 0)
			return -e->errnum;
		/* A memfd has no file system of its own: its f_blocks is 0 (no limit). */
		if (fstatfs(map->r[i].fd, &fs) == 0 && fs.f_blocks != 0) {
			uint64_t room = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
			uint64_t want = bytes < map->r[i].bytes ? bytes : map->r[i].bytes;

			if (room < want)
				return too_little(e, "the file system of its RAM file", want, room);
		}
	}
	need = bytes > huge ? bytes - huge : 0;
	if (need == 0)
		return 0;
	need += promised + MARGIN_BYTES;
	if (need > available)
		return too_little(e, "this host, less what other sessions were promised,",
			need - promised, available > promised ? available - promised : 0);
	if (need > group)
		return too_little(e, "the daemon's control group", need, group);
	return 0;
}
