// SPDX-License-Identifier: BSD-3-Clause
// Is this process allowed the locked memory that a migration over RDMA needs? Asked before anything
// is registered. Reads /proc; run by the control loop.
//
// The kernel counts what is registered with all devices (VmPin) against RLIMIT_MEMLOCK, unless the
// process has CAP_IPC_LOCK.

#include "link_rdma.h"

#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>

struct own {
	unsigned long long pinned_kib, capabilities, limit_bytes; /* ULLONG_MAX: no limit */
};

static void read_lines(struct own *own, const char *root, const char *name)
{
	char line[256];
	FILE *f;

	snprintf(line, sizeof(line), "%s/proc/self/%s", root, name);
	f = fopen(line, "re");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		(void)sscanf(line, "VmPin: %llu", &own->pinned_kib);
		(void)sscanf(line, "CapEff: %llx", &own->capabilities);
		(void)sscanf(line, "Max locked memory %llu", &own->limit_bytes);
	}
	if (f != NULL)
		fclose(f);
}

int link_rdma_locked_check(const char *root, unsigned flows, uint64_t guest_bytes, struct err *e)
{
	uint64_t need = flows * link_rdma_locked_bytes() + guest_bytes, left;
	struct own own = {.limit_bytes = ULLONG_MAX};
	char guest[64] = "";

	read_lines(&own, root, "status");
	read_lines(&own, root, "limits");
	if ((own.capabilities >> CAP_IPC_LOCK & 1) != 0)
		return 0;
	left = own.limit_bytes >> 10 > own.pinned_kib ? own.limit_bytes - (own.pinned_kib << 10)
						      : 0;
	if (need <= left)
		return 0;
	if (guest_bytes != 0)
		snprintf(guest, sizeof(guest), " and the guest's memory %llu MiB",
			(unsigned long long)guest_bytes >> 20);
	return err_set(e, ENOMEM,
		"rdma: %u flows need %llu KiB of locked memory%s; this godwitd may lock %llu KiB "
		"more (RLIMIT_MEMLOCK): raise LimitMEMLOCK= of the service or ulimit -l%s",
		flows, (unsigned long long)(need - guest_bytes) >> 10, guest,
		(unsigned long long)left >> 10,
		guest_bytes != 0 ? ", or rdma-fabric untrusted" : "");
}
