/* SPDX-License-Identifier: BSD-3-Clause */
/* The daemon's RDMA device, where its options name one: opened at the start, its events brought to
 * the control loop, described for status. Control loop only. */
#ifndef GODWIT_CONTROL_RDMA_H
#define GODWIT_CONTROL_RDMA_H

#include <event2/event.h>
#include <jansson.h>

#include "link_rdma.h"
#include "option.h"

struct rdma;

/* By the options of godwitd; *r and *host stay NULL where they name no device. *host is the device
 * for sessions, and NULL once it was removed: then removed() is called, once, for sessions to let
 * go of it. asked: see link_rdma.h. 0 or -errno with e set. */
int rdma_start(struct rdma **r, struct link_rdma_host **host, struct event_base *base,
	const struct option_set *o,
	bool (*asked)(void *arg, const struct link_rdma_ask *ask, struct link_rdma_welcome *w),
	void (*removed)(void *arg), void *arg, struct err *e);
/* No session is left. NULL is allowed. */
void rdma_stop(struct rdma *r);

json_t *rdma_describe(const struct link_rdma_info *i);
/* device, address, port, mtu, node, odp, on_demand, trusted; null where there is none. New
 * reference. */
json_t *rdma_status(const struct link_rdma_host *h);

#endif
