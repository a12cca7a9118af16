// SPDX-License-Identifier: BSD-3-Clause
// The table of verbs that stands for libibverbs. The first three are run by polling cores: on
// hardware they write to the device's own pages and make no system call.

#include "link_rdma_verbs.h"

static int post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	return ibv_post_send(qp, wr, bad);
}

static int post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	return ibv_post_recv(qp, wr, bad);
}

static int poll_cq(struct ibv_cq *cq, int n, struct ibv_wc *wc)
{
	return ibv_poll_cq(cq, n, wc);
}

static struct ibv_pd *alloc_pd(struct ibv_context *ctx)
{
	return ibv_alloc_pd(ctx);
}

static int dealloc_pd(struct ibv_pd *pd)
{
	return ibv_dealloc_pd(pd);
}

static struct ibv_mr *reg_mr(struct ibv_pd *pd, void *addr, size_t bytes, int access)
{
	return ibv_reg_mr(pd, addr, bytes, access);
}

static int dereg_mr(struct ibv_mr *mr)
{
	return ibv_dereg_mr(mr);
}

static int advise_mr(struct ibv_pd *pd, enum ibv_advise_mr_advice advice, struct ibv_sge *sge)
{
	return ibv_advise_mr(pd, advice, 0, sge, 1);
}

const struct verbs verbs_real = {
	.post_send = post_send,
	.post_recv = post_recv,
	.poll_cq = poll_cq,
	.alloc_pd = alloc_pd,
	.dealloc_pd = dealloc_pd,
	.reg_mr = reg_mr,
	.dereg_mr = dereg_mr,
	.advise_mr = advise_mr,
};
