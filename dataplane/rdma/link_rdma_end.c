// SPDX-License-Identifier: BSD-3-Clause
// A connection of the rdma link as it is made and ended. Run by the control loop.
//
// Invariants: up is called once. The queue pair is destroyed before the memory that it may touch is
// freed. Nothing here waits: what does not come in time is given up.

#include "link_rdma_end.h"

#include "clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// 4.096 µs times 2 to this power, and 7 tries in all: some 2 s of silence break a queue pair, and
// the session connects anew. Longer, and a network that loses the last packet of a burst stands
// still for as long; shorter, and a switch that heals breaks connections. Never 7 retries: some
// devices take that for no end.
#define ACK_TIMEOUT 16
#define RETRIES     6
// Receive buffers are always there (link_rdma_impl.h): a device that finds none is told to wait and
// not to give up at once.
#define RNR_RETRIES 6
// Of the peer, which writes to pages that this device has to ask for first: that takes as long as
// it takes, and who is gone says nothing at all.
#define RNR_FOR_EVER 7
#define LINGER_NS    (10 * NS_PER_S)
#define GOODBYE_NS   (5 * NS_PER_S)
#define STEP_MS      4000

struct link_rdma_end *rdma_end_new(
	struct link_rdma_domain *domain, struct rdma_cm_id *id, bool source, struct err *e)
{
	struct link_rdma_end *d = calloc(1, sizeof(*d));

	if (d == NULL) {
		err_set(e, ENOMEM, "rdma: no memory for a connection");
		return NULL;
	}
	d->host = domain->host;
	d->domain = rdma_domain_use(domain);
	d->id = id;
	d->source = source;
	id->context = d;
	LIST_INSERT_HEAD(&d->host->ends, d, next);
	return d;
}

void rdma_end_free(struct link_rdma_end *d)
{
	if (d->owner != NULL)
		*d->owner = NULL;
	rdma_qp_free(d);
	link_rdma_free(d->link);
	if (d->id != NULL)
		rdma_destroy_id(d->id);
	link_rdma_domain_free(d->domain);
	LIST_REMOVE(d, next);
	free(d);
}

static void call_up(struct link_rdma_end *d, struct link *l, const struct err *why)
{
	link_rdma_up_fn up = d->up;

	if (d->owner != NULL)
		*d->owner = NULL;
	d->owner = NULL;
	d->up = NULL;
	if (up != NULL)
		up(d->arg, l, why);
}

void rdma_end_fail(struct link_rdma_end *d, const struct err *why)
{
	struct link_rdma_end *owned = d;

	call_up(owned, NULL, why);
	rdma_end_free(d);
}

void rdma_end_up(struct link_rdma_end *d)
{
	struct err e;

	if (rdma_host_can(d->host, &e) < 0) {
		rdma_end_fail(d, &e);
		return;
	}
	rdma_of(d->link)->mtu = d->mtu;
	d->state = RDMA_END_UP;
	d->until_ns = 0;
	call_up(d, d->link, NULL);
}

// The link was closed by its user; no lcore runs it any more.
static void release(void *arg, struct link *l)
{
	struct link_rdma_end *d = arg;

	d->state = RDMA_END_LEAVING;
	d->until_ns = clock_ns() + (d->source ? GOODBYE_NS : LINGER_NS);
	// Its queue pair could still write guest memory: from here on it takes nothing, and where
	// that can't be had it is destroyed.
	if ((rdma_of(l)->direct || d->source) && !d->over && rdma_qp_leave(d) != 0)
		d->over = true;
	if (d->over)
		rdma_end_free(d);
}

int rdma_end_open(struct link_rdma_end *d, struct err *e)
{
	struct link_rdma_config c = {.v = d->host->v,
		.pd = d->domain->pd,
		.source = d->source,
		.node = d->host->info.node,
		.release = release,
		.release_arg = d};
	int rc;

	if (d->id->verbs != d->host->listener->verbs)
		return err_set(e, EHOSTUNREACH,
			"rdma: %s is not reached by device %s but by another one: give both hosts "
			"addresses of one RDMA network",
			d->peer, d->host->info.device);
	rc = rdma_qp_new(d, &c, e);
	if (rc < 0)
		return rc;
	c.qp = d->qp;
	c.cq = d->cq;
	return link_rdma_open(&d->link, &c, e);
}

int rdma_end_options(const struct link_rdma_host *h, struct rdma_cm_id *id, struct err *e)
{
	uint8_t timeout = ACK_TIMEOUT, tos = (uint8_t)h->cfg.traffic_class;

	if (rdma_set_option(
		    id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout, sizeof(timeout)) != 0)
		return err_sys(e, errno,
			"rdma: the connection manager takes no time-out for acknowledgements; "
			"Linux 5.3 or newer does");
	if (h->cfg.traffic_class >= 0 &&
		rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_TOS, &tos, sizeof(tos)) != 0)
		return err_sys(e, errno,
			"rdma: packets can't have traffic class %d; leave rdma-traffic-class out",
			h->cfg.traffic_class);
	return 0;
}

static struct rdma_conn_param param_of(
	const struct link_rdma_end *d, const uint8_t hello[RDMA_HELLO_BYTES])
{
	return (struct rdma_conn_param){.private_data = hello,
		.private_data_len = RDMA_HELLO_BYTES,
		.retry_count = RETRIES,
		.rnr_retry_count = d->host->cfg.on_demand ? RNR_FOR_EVER : RNR_RETRIES,
		.qp_num = d->qp->qp_num};
}

static int connect_now(struct link_rdma_end *d)
{
	uint8_t hello[RDMA_HELLO_BYTES];
	struct rdma_conn_param p;

	d->ask.mtu = d->host->info.mtu;
	rdma_hello_put_ask(hello, &d->ask);
	p = param_of(d, hello);
	return rdma_connect(d->id, &p);
}

int rdma_end_accept(struct link_rdma_end *d, struct err *e)
{
	uint32_t most = d->host->info.mtu;
	uint8_t hello[RDMA_HELLO_BYTES];
	struct rdma_conn_param p;
	struct rdma_hello_accept a;
	int rc = rdma_qp_connect(d, d->ask.mtu < most ? d->ask.mtu : most, e);

	if (rc < 0)
		return rc;
	link_rdma_offer(d->link, &a);
	a.mtu = d->mtu;
	rdma_hello_put_accept(hello, &a);
	p = param_of(d, hello);
	d->state = RDMA_END_ACCEPT;
	if (rdma_accept(d->id, &p) != 0)
		return err_sys(e, errno, "rdma: cannot accept the connection of %s", d->peer);
	return 0;
}

// The target has accepted. 0 or -errno.
static int meet(struct link_rdma_end *d, const struct rdma_said *said, struct err *e)
{
	struct rdma_hello_accept a;
	int rc = rdma_hello_get_accept(&a, said->data, said->bytes);

	if (rc == -EPROTONOSUPPORT)
		return err_set(e, EPROTO,
			"rdma: %s speaks another version of the rdma link; install the same "
			"version on both hosts",
			d->peer);
	if (rc < 0)
		return err_set(e, EPROTO,
			"rdma: what listens at %s is no godwitd; check the address", d->peer);
	rc = link_rdma_meet(d->link, &a, e);
	if (rc == 0)
		rc = rdma_qp_connect(d, a.mtu, e);
	if (rc == 0 && (d->mtu != a.mtu || a.mtu > d->ask.mtu))
		return err_set(e, EPROTO,
			"rdma: %s wants packets of %u bytes, and the path takes %u: give the "
			"interfaces of both hosts the same MTU",
			d->peer, a.mtu, d->mtu < d->ask.mtu ? d->mtu : d->ask.mtu);
	if (rc == 0 && rdma_establish(d->id) != 0)
		rc = err_sys(e, errno, "rdma: cannot connect to %s", d->peer);
	return rc;
}

// The next step of a dial. 0 or -errno.
static int step(struct link_rdma_end *d, const struct rdma_said *said, struct err *e)
{
	int rc;

	switch (said->event) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		rc = rdma_end_open(d, e);
		d->state = RDMA_END_ROUTE;
		if (rc == 0 && rdma_resolve_route(d->id, STEP_MS) != 0)
			rc = err_sys(e, errno, "rdma: cannot look for a route to %s", d->peer);
		return rc;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		d->state = RDMA_END_CONNECT;
		if (connect_now(d) != 0)
			return err_sys(e, errno, "rdma: cannot connect to %s", d->peer);
		return 0;
	case RDMA_CM_EVENT_CONNECT_RESPONSE:
		return meet(d, said, e);
	default: // target: established
		return 0;
	}
}

static void refused(struct link_rdma_end *d, const struct rdma_said *said, struct err *e)
{
	switch (said->event) {
	case RDMA_CM_EVENT_ADDR_ERROR:
		err_set(e, EHOSTUNREACH,
			"rdma: no device of this host reaches %s: check the addresses of both "
			"hosts, and that the other one is up",
			d->peer);
		break;
	case RDMA_CM_EVENT_ROUTE_ERROR:
		err_set(e, EHOSTUNREACH,
			"rdma: there is no route to %s: check the subnet manager or the routes of "
			"both hosts",
			d->peer);
		break;
	case RDMA_CM_EVENT_REJECTED:
		err_set(e, ECONNREFUSED,
			"rdma: %s refused the connection (reason %d): its godwitd does not wait "
			"for this flow, or has ended; see its log",
			d->peer, said->status);
		break;
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
		err_set(e, ENODEV, "rdma: device %s was removed; look in the kernel's log",
			d->host->info.device);
		break;
	default:
		err_set(e, EHOSTUNREACH,
			"rdma: %s does not answer (%s): check the RDMA network and that its "
			"godwitd "
			"runs",
			d->peer, rdma_event_str(said->event));
	}
}

// A link that is up, or was closed: only its end is news.
static void ended(struct link_rdma_end *d, int errnum)
{
	d->over = true;
	if (d->state == RDMA_END_LEAVING) {
		rdma_end_free(d);
		return;
	}
	link_rdma_over(rdma_of(d->link), errnum);
	if (errnum != ENODEV)
		(void)rdma_qp_leave(d); // the peer's goodbye is answered
}

void rdma_end_event(struct link_rdma_end *d, const struct rdma_said *said)
{
	bool up = d->state == RDMA_END_UP || d->state == RDMA_END_LEAVING;
	struct err e;

	switch (said->event) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
	case RDMA_CM_EVENT_CONNECT_RESPONSE:
	case RDMA_CM_EVENT_ESTABLISHED:
		if (up)
			return;
		if (step(d, said, &e) < 0)
			rdma_end_fail(d, &e);
		else if (said->event ==
			 (d->source ? RDMA_CM_EVENT_CONNECT_RESPONSE : RDMA_CM_EVENT_ESTABLISHED))
			rdma_end_up(d);
		return;
	case RDMA_CM_EVENT_TIMEWAIT_EXIT:
		return;
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
	case RDMA_CM_EVENT_DISCONNECTED:
		if (up) {
			ended(d, said->event == RDMA_CM_EVENT_DISCONNECTED ? EPIPE : ENODEV);
			return;
		}
		// fall through
	default:
		if (up)
			return;
		refused(d, said, &e);
		rdma_end_fail(d, &e);
	}
}

void rdma_end_late(struct link_rdma_end *d)
{
	struct err e;

	if (d->state == RDMA_END_LEAVING) {
		rdma_end_free(d);
		return;
	}
	err_set(&e, ETIMEDOUT,
		"rdma: no connection with %s was made in time: check the RDMA network, its "
		"addresses, and that the godwitd over there has the option rdma",
		d->peer);
	rdma_end_fail(d, &e);
}

void link_rdma_cancel(struct link_rdma_end *d)
{
	if (d == NULL)
		return;
	d->up = NULL;
	rdma_end_free(d);
}
