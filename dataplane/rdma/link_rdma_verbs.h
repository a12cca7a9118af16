/* SPDX-License-Identifier: BSD-3-Clause */
/* What the rdma link asks of a device once its queue pair stands: one small table, so that tests
 * can put a device of their own in its place. libibverbs' own types and return values: 0, or a
 * positive errno with the first request that was not taken in *bad. */
#ifndef GODWIT_DATAPLANE_LINK_RDMA_VERBS_H
#define GODWIT_DATAPLANE_LINK_RDMA_VERBS_H

#include <infiniband/verbs.h>

struct verbs {
	/* lcore */
	int (*post_send)(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
	int (*post_recv)(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
	int (*poll_cq)(struct ibv_cq *cq, int n, struct ibv_wc *wc); /* how many, or negative */
	/* control; NULL with errno set */
	struct ibv_pd *(*alloc_pd)(struct ibv_context *ctx);
	int (*dealloc_pd)(struct ibv_pd *pd);
	struct ibv_mr *(*reg_mr)(struct ibv_pd *pd, void *addr, size_t bytes, int access);
	int (*dereg_mr)(struct ibv_mr *mr);
	int (*advise_mr)(struct ibv_pd *pd, enum ibv_advise_mr_advice advice, struct ibv_sge *sge);
};

extern const struct verbs verbs_real;

struct link_rdma_can;
/* link_rdma_probe.c. 0 or -errno. */
int link_rdma_can_of(struct ibv_context *ctx, struct link_rdma_can *can);

#endif
