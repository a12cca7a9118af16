// SPDX-License-Identifier: BSD-3-Clause
// The connection manager that is none: functions of librdmacm and libibverbs, by their names.

#include "fake_cm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct fake_cm cm;

void fake_cm_begin(struct fake_end *end)
{
	cm = (struct fake_cm){.end = end,
		.path_mtu = IBV_MTU_4096,
		.ack_timeout = -1,
		.tos = -1,
		.state = IBV_QPS_UNKNOWN};
}

void fake_cm_say(struct rdma_cm_id *id, enum rdma_cm_event_type type, const void *data, uint8_t n)
{
	struct rdma_cm_event *e = &cm.event[cm.events++ % FAKE_EVENTS];

	*e = (struct rdma_cm_event){.id = id, .event = type};
	e->param.conn.private_data = data;
	e->param.conn.private_data_len = n;
}

void fake_cm_device(enum ibv_event_type type, uint8_t port)
{
	cm.async[cm.asyncs++ % FAKE_EVENTS] =
		(struct ibv_async_event){.event_type = type, .element.port_num = port};
}

struct rdma_cm_id *fake_cm_caller(struct ibv_context *ctx)
{
	struct rdma_cm_id *id = calloc(1, sizeof(*id));

	id->verbs = ctx;
	id->route.addr.dst_addr.sa_family = AF_INET;
	cm.ids++;
	return id;
}

int rdma_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **id, void *context,
	enum rdma_port_space ps)
{
	(void)ps;
	*id = fake_cm_caller(NULL);
	(*id)->channel = channel;
	(*id)->context = context;
	return 0;
}

int rdma_destroy_id(struct rdma_cm_id *id)
{
	free(id);
	cm.ids--;
	return 0;
}

int rdma_set_option(struct rdma_cm_id *id, int level, int name, void *value, size_t bytes)
{
	(void)id;
	if (level != RDMA_OPTION_ID || bytes != 1) {
		errno = EINVAL;
		return -1;
	}
	if (name == RDMA_OPTION_ID_ACK_TIMEOUT)
		cm.ack_timeout = *(uint8_t *)value;
	else if (name == RDMA_OPTION_ID_TOS)
		cm.tos = *(uint8_t *)value;
	return 0;
}

int rdma_resolve_addr(struct rdma_cm_id *id, struct sockaddr *from, struct sockaddr *to, int ms)
{
	(void)id;
	(void)from;
	(void)to;
	cm.resolves++;
	cm.resolve_ms = ms;
	return 0;
}

int rdma_resolve_route(struct rdma_cm_id *id, int ms)
{
	(void)id;
	cm.routes++;
	cm.route_ms = ms;
	return 0;
}

static void keep(const struct rdma_conn_param *p)
{
	cm.param = *p;
	memcpy(cm.data, p->private_data, p->private_data_len);
	cm.param.private_data = cm.data;
}

int rdma_connect(struct rdma_cm_id *id, struct rdma_conn_param *p)
{
	(void)id;
	cm.connects++;
	keep(p);
	return 0;
}

int rdma_accept(struct rdma_cm_id *id, struct rdma_conn_param *p)
{
	(void)id;
	cm.accepts++;
	keep(p);
	return 0;
}

int rdma_establish(struct rdma_cm_id *id)
{
	(void)id;
	cm.establishes++;
	return 0;
}

int rdma_reject(struct rdma_cm_id *id, const void *data, uint8_t bytes)
{
	(void)id;
	(void)data;
	(void)bytes;
	cm.rejects++;
	return 0;
}

int rdma_disconnect(struct rdma_cm_id *id)
{
	(void)id;
	cm.leaves++;
	return 0;
}

int rdma_init_qp_attr(struct rdma_cm_id *id, struct ibv_qp_attr *a, int *mask)
{
	(void)id;
	*mask = IBV_QP_STATE | 1 << 23; // and something that only kernels know
	if (a->qp_state == IBV_QPS_RTR) {
		a->path_mtu = cm.path_mtu;
		*mask |= IBV_QP_PATH_MTU;
	}
	return 0;
}

int ibv_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *a, int mask)
{
	(void)qp;
	if (cm.modify_errno != 0 || mask > ((int)IBV_QP_DEST_QPN << 1))
		return cm.modify_errno != 0 ? cm.modify_errno : EOPNOTSUPP;
	cm.state = a->qp_state;
	if (mask & IBV_QP_PATH_MTU)
		cm.mtu = a->path_mtu;
	return 0;
}

struct ibv_cq *ibv_create_cq(struct ibv_context *ctx, int most, void *context,
	struct ibv_comp_channel *channel, int vector)
{
	(void)ctx;
	(void)most;
	(void)context;
	(void)channel;
	(void)vector;
	return &cm.end->cq;
}

int ibv_destroy_cq(struct ibv_cq *cq)
{
	(void)cq;
	return 0;
}

struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *a)
{
	(void)pd;
	(void)a;
	// As new: what was before is freed.
	cm.end->mrs = cm.end->recv_head = cm.end->recv_tail = 0;
	cm.end->qp.qp_num = 77;
	return &cm.end->qp;
}

int ibv_destroy_qp(struct ibv_qp *qp)
{
	(void)qp;
	cm.state = IBV_QPS_UNKNOWN;
	return 0;
}

int rdma_get_cm_event(struct rdma_event_channel *channel, struct rdma_cm_event **e)
{
	(void)channel;
	if (cm.taken == cm.events) {
		errno = EAGAIN;
		return -1;
	}
	*e = &cm.event[cm.taken++ % FAKE_EVENTS];
	return 0;
}

int rdma_ack_cm_event(struct rdma_cm_event *e)
{
	(void)e;
	return 0;
}

int ibv_get_async_event(struct ibv_context *ctx, struct ibv_async_event *ev)
{
	(void)ctx;
	if (cm.async_taken == cm.asyncs)
		return -1;
	*ev = cm.async[cm.async_taken++ % FAKE_EVENTS];
	return 0;
}

void ibv_ack_async_event(struct ibv_async_event *ev)
{
	(void)ev;
}
