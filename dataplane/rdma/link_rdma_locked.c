// SPDX-License-Identifier: BSD-3-Clause
// Is this process allowed the locked memory that a migration over RDMA needs? Asked before anything
// is registered. Run by the control loop.
//
// The kernel counts what is registered with all devices (VmPin) against RLIMIT_MEMLOCK, unless the
// process has CAP_IPC_LOCK.

#include "link_rdma.h"

#include "link_rdma_pool.h"
#include "locked.h"

#include <errno.h>
#include <stdio.h>

#define WINDOW_BYTES (UINT64_C(64) << 20)  // what is registered by turns, where that fits
#define WINDOWS      8u                    // that are to fit
#define QUEUE_BYTES  (UINT64_C(512) << 10) // of a flow that its device's driver may lock besides

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

// Twice: after a cut the flows of before linger while others are made, and nothing else leaves room
// for those.
static uint64_t flows_bytes(unsigned flows)
{
	return 2 * flows * (link_rdma_locked_bytes() + QUEUE_BYTES);
}

bool link_rdma_locked_turns(const char *root, unsigned flows, uint64_t least_bytes,
	uint64_t most_bytes, uint64_t *window_bytes, uint32_t *most)
{
	uint64_t left = locked_left_bytes(root, LOCKED_BY_RDMA), window = WINDOW_BYTES;
	uint64_t rings = flows_bytes(flows);

	if (most_bytes < least_bytes)
		return false;
	left = left > rings ? left - rings : 0;
	while (window > most_bytes || (window > least_bytes && left / window < WINDOWS))
		window /= 2;
	while (window < least_bytes)
		window *= 2;
	if (window > most_bytes || left / window < LINK_RDMA_POOL_LEAST)
		return false;
	*window_bytes = window;
	*most = left / window < UINT32_MAX ? (uint32_t)(left / window) : UINT32_MAX;
	return true;
}
