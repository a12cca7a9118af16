// SPDX-License-Identifier: BSD-3-Clause
// How much memory this process may still lock: asked before a device is to read or write guest
// memory by itself. Reads /proc; run by control threads and helpers.

#include "locked.h"

#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>

struct own {
	unsigned long long pinned_kib, locked_kib, capabilities, limit_bytes;
};

static void read_lines(struct own *own, const char *root, const char *name)
{
	char line[256];
	FILE *f;

	snprintf(line, sizeof(line), "%s/proc/self/%s", root, name);
	f = fopen(line, "re");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		(void)sscanf(line, "VmPin: %llu", &own->pinned_kib);
		(void)sscanf(line, "VmLck: %llu", &own->locked_kib);
		(void)sscanf(line, "CapEff: %llx", &own->capabilities);
		(void)sscanf(line, "Max locked memory %llu", &own->limit_bytes);
	}
	if (f != NULL)
		fclose(f);
}

uint64_t locked_left_bytes(const char *root, enum locked_by by)
{
	struct own own = {.limit_bytes = ULLONG_MAX};
	uint64_t used;

	read_lines(&own, root, "status");
	read_lines(&own, root, "limits");
	if ((own.capabilities >> CAP_IPC_LOCK & 1) != 0 || own.limit_bytes == ULLONG_MAX)
		return UINT64_MAX;
	used = (by == LOCKED_BY_RDMA ? own.pinned_kib : own.locked_kib) << 10;
	return own.limit_bytes > used ? own.limit_bytes - used : 0;
}
