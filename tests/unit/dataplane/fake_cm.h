/* SPDX-License-Identifier: BSD-3-Clause */
/* A connection manager that is none, in the place of librdmacm and of what libibverbs does for
 * control: it keeps what it was asked, and says what a test puts into its mouth. One queue pair at
 * a time, of `end`. */
#ifndef GODWIT_TESTS_FAKE_CM_H
#define GODWIT_TESTS_FAKE_CM_H

#include "fake_verbs.h"
#include "link_rdma_end.h"

#define FAKE_EVENTS 8u

struct fake_cm {
	struct fake_end *end;
	enum ibv_mtu path_mtu; /* what a connection has */
	struct rdma_cm_event event[FAKE_EVENTS];
	unsigned events, taken;
	struct ibv_async_event async[FAKE_EVENTS];
	unsigned asyncs, async_taken;
	int modify_errno; /* of ibv_modify_qp; 0: it can */
	/* what it was asked */
	unsigned ids, resolves, routes, connects, establishes, accepts, rejects, leaves;
	int resolve_ms, route_ms;
	int ack_timeout, tos; /* -1: was not set */
	struct rdma_conn_param param;
	uint8_t data[RDMA_PRIVATE_BYTES]; /* of it */
	enum ibv_qp_state state;
	enum ibv_mtu mtu; /* that the queue pair has */
};
extern struct fake_cm cm;

void fake_cm_begin(struct fake_end *end);
/* An event that link_rdma_host_poll() will find. */
void fake_cm_say(struct rdma_cm_id *id, enum rdma_cm_event_type type, const void *data, uint8_t n);
void fake_cm_device(enum ibv_event_type type, uint8_t port);
/* An id as one that somebody dialled in with. */
struct rdma_cm_id *fake_cm_caller(struct ibv_context *ctx);

#endif
