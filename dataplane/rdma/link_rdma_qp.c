// SPDX-License-Identifier: BSD-3-Clause
// The queue pair of a connection: made, connected with the peer's, and shut. Run by the control
// loop.
//
// librdmacm could do all this by itself, but then packets are as long as the port here takes them,
// and a peer whose port takes less hears none of them. So both ends agree (link_rdma_hello.h), and
// the queue pair is connected here.
//
// Each has its own completion queue and its own receives, and no shared receive queue: it belongs
// to one core, and what two cores share, the device's library locks.

#include "link_rdma_end.h"

#include <errno.h>
#include <string.h>

// What libibverbs knows; some kernels tell more, for themselves.
#define KNOWN (((int)IBV_QP_DEST_QPN << 1) - 1)

static int cannot(const struct link_rdma_end *d, int errnum, const char *what, struct err *e)
{
	return err_sys(e, errnum > 0 ? errnum : EIO, "rdma: cannot %s on device %s", what,
		d->host->info.device);
}

static uint32_t bytes_of(enum ibv_mtu mtu)
{
	return 128u << mtu;
}

static enum ibv_mtu mtu_of(uint32_t bytes)
{
	enum ibv_mtu mtu = IBV_MTU_256;

	while (mtu < IBV_MTU_4096 && bytes_of(mtu + 1) <= bytes)
		mtu++;
	return mtu;
}

// To its next state, with what the connection manager knows of it. 0 or a positive errno.
static int advance(struct link_rdma_end *d, enum ibv_qp_state state, uint32_t most)
{
	struct ibv_qp_attr a;
	int mask = 0;

	memset(&a, 0, sizeof(a));
	a.qp_state = state;
	errno = 0;
	if (rdma_init_qp_attr(d->id, &a, &mask) != 0)
		return errno != 0 ? errno : EIO;
	if (mask & IBV_QP_PATH_MTU) {
		if (bytes_of(a.path_mtu) > most)
			a.path_mtu = mtu_of(most);
		d->mtu = bytes_of(a.path_mtu);
	}
	return ibv_modify_qp(d->qp, &a, mask & KNOWN);
}

int rdma_qp_new(struct link_rdma_end *d, struct link_rdma_config *c, struct err *e)
{
	struct ibv_qp_init_attr a = {
		.cap = {.max_send_wr = RDMA_SENDS,
			.max_recv_wr = RDMA_RECVS_MOST,
			.max_send_sge = d->host->most_sge < RDMA_SGES ? 1 : RDMA_SGES,
			.max_recv_sge = 1,
			.max_inline_data = FRAME_HDR_BYTES + SEAL_TAG_BYTES},
		.qp_type = IBV_QPT_RC,
	};
	int rc;

	errno = 0;
	d->cq = ibv_create_cq(d->id->verbs, (int)(RDMA_SENDS + RDMA_RECVS_MOST), NULL, NULL, 0);
	if (d->cq == NULL)
		return cannot(d, errno, "make a completion queue", e);
	a.send_cq = a.recv_cq = d->cq;
	d->qp = ibv_create_qp(d->domain->pd, &a);
	if (d->qp == NULL)
		return cannot(d, errno, "make a queue pair", e);
	rc = advance(d, IBV_QPS_INIT, 0);
	if (rc != 0)
		return cannot(d, rc, "make a queue pair", e);
	c->most_inline = a.cap.max_inline_data;
	c->gathers = a.cap.max_send_sge >= RDMA_SGES;
	return 0;
}

int rdma_qp_connect(struct link_rdma_end *d, uint32_t most, struct err *e)
{
	// Again, for what was not known when it was made.
	int rc = advance(d, IBV_QPS_INIT, 0);

	if (rc == 0)
		rc = advance(d, IBV_QPS_RTR, most);
	if (rc == 0)
		rc = advance(d, IBV_QPS_RTS, 0);
	return rc == 0 ? 0 : cannot(d, rc, "connect a queue pair", e);
}

int rdma_qp_leave(struct link_rdma_end *d)
{
	struct ibv_qp_attr a = {.qp_state = IBV_QPS_ERR};

	if (ibv_modify_qp(d->qp, &a, IBV_QP_STATE) != 0)
		return -1;
	return rdma_disconnect(d->id);
}

void rdma_qp_free(struct link_rdma_end *d)
{
	if (d->qp != NULL)
		ibv_destroy_qp(d->qp);
	if (d->cq != NULL)
		ibv_destroy_cq(d->cq);
	d->qp = NULL;
	d->cq = NULL;
}
