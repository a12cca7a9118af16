// SPDX-License-Identifier: BSD-3-Clause
// Is this process allowed the locked memory that a migration over RDMA needs? Asked before anything
// is registered. Run by the control loop.
//
// The kernel counts what is registered with all devices (VmPin) against RLIMIT_MEMLOCK, unless the
// process has CAP_IPC_LOCK.

#include "link_rdma.h"

#include "locked.h"

#include <errno.h>
#include <stdio.h>

int link_rdma_locked_check(const char *root, unsigned flows, uint64_t guest_bytes, struct err *e)
{
	uint64_t need = flows * link_rdma_locked_bytes() + guest_bytes;
	uint64_t left = locked_left_bytes(root, LOCKED_BY_RDMA);
	char guest[64] = "";

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
