// SPDX-License-Identifier: BSD-3-Clause
// What a device says of itself: a port that went down, a queue pair that it gave up, its own end.
// Run by the control loop.
//
// Invariants: a device that is gone stays gone: nothing is made on it any more, and what is there
// is told, so that it is let go of. The system waits with a removal until that is done. A port that
// is down may come back: what is being made is given its time, and nothing is begun or comes up.

#include "link_rdma_end.h"

#include <errno.h>

static void tell(struct link_rdma_end *d, int errnum)
{
	link_rdma_over(rdma_of(d->link), errnum);
}

static void tell_all(struct link_rdma_host *h, int errnum)
{
	struct link_rdma_end *d;

	LIST_FOREACH(d, &h->ends, next)
	if (d->state == RDMA_END_UP)
		tell(d, errnum);
}

void rdma_host_gone(struct link_rdma_host *h)
{
	h->gone = true;
	tell_all(h, ENODEV);
}

int rdma_host_can(const struct link_rdma_host *h, struct err *e)
{
	if (h->gone)
		return err_set(e, ENODEV,
			"rdma: device %s was removed or has failed; look in the kernel's log",
			h->info.device);
	if (h->down)
		return err_set(e, ENETDOWN,
			"rdma: the port of device %s at %s is down; check its cable and network "
			"interface",
			h->info.device, h->info.address);
	return 0;
}

void rdma_host_said(struct link_rdma_host *h, const struct ibv_async_event *ev)
{
	struct link_rdma_end *d;

	switch (ev->event_type) {
	case IBV_EVENT_PORT_ERR:
	case IBV_EVENT_PORT_ACTIVE:
		if (ev->element.port_num != h->listener->port_num)
			return;
		h->down = ev->event_type == IBV_EVENT_PORT_ERR;
		if (h->down)
			tell_all(h, ENETDOWN);
		return;
	case IBV_EVENT_DEVICE_FATAL:
		rdma_host_gone(h);
		return;
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_ACCESS_ERR:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_CQ_ERR:
		LIST_FOREACH(d, &h->ends, next)
		if (d->state == RDMA_END_UP &&
			(ev->event_type == IBV_EVENT_CQ_ERR ? d->cq == ev->element.cq
							    : d->qp == ev->element.qp))
			tell(d, ev->event_type == IBV_EVENT_QP_ACCESS_ERR ? EACCES : ECONNRESET);
		return;
	default:
		return;
	}
}

void rdma_host_listen(struct link_rdma_host *h)
{
	struct ibv_async_event ev;

	while (!h->gone && ibv_get_async_event(h->listener->verbs, &ev) == 0) {
		ibv_ack_async_event(&ev);
		rdma_host_said(h, &ev);
	}
}
