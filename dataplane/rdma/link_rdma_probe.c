// SPDX-License-Identifier: BSD-3-Clause
// What RDMA devices can do: asked for, never guessed by their names. Run by control threads, and by
// the command line, which has nothing else of this folder.

#include "link_rdma.h"
#include "link_rdma_verbs.h"

#include <errno.h>
#include <stdio.h>

int link_rdma_can_of(struct ibv_context *ctx, struct link_rdma_can *can)
{
	const struct ibv_odp_caps *odp;
	struct ibv_device_attr_ex a;
	struct ibv_port_attr port;
	int rc;

	*can = (struct link_rdma_can){0};
	snprintf(can->device, sizeof(can->device), "%s", ibv_get_device_name(ctx->device));
	rc = ibv_query_device_ex(ctx, NULL, &a);
	if (rc != 0)
		return rc > 0 ? -rc : -EIO;
	odp = &a.odp_caps;
	can->most_mr_bytes = a.orig_attr.max_mr_size;
	can->most_mrs = (unsigned)a.orig_attr.max_mr;
	can->most_queues = (unsigned)a.orig_attr.max_qp;
	can->most_requests = (unsigned)a.orig_attr.max_qp_wr;
	can->most_sge = (unsigned)a.orig_attr.max_sge;
	can->most_completions = (unsigned)a.orig_attr.max_cqe;
	can->odp = (odp->general_caps & IBV_ODP_SUPPORT) != 0 &&
		   (odp->per_transport_caps.rc_odp_caps & IBV_ODP_SUPPORT_WRITE) != 0;
	for (uint8_t i = 0; i < a.orig_attr.phys_port_cnt && i < LINK_RDMA_PORTS; i++)
		if (ibv_query_port(ctx, (uint8_t)(i + 1), &port) == 0)
			can->mtu[i] = 128u << port.active_mtu;
	return 0;
}

unsigned link_rdma_probe(struct link_rdma_can *can, unsigned most)
{
	int n = 0;
	struct ibv_device **list = ibv_get_device_list(&n);
	unsigned found = 0;

	for (int i = 0; list != NULL && i < n && found < most; i++) {
		struct ibv_context *ctx = ibv_open_device(list[i]);

		if (ctx == NULL)
			continue;
		found += link_rdma_can_of(ctx, &can[found]) == 0;
		ibv_close_device(ctx);
	}
	if (list != NULL)
		ibv_free_device_list(list);
	return found;
}
