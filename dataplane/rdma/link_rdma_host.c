// SPDX-License-Identifier: BSD-3-Clause
// What a daemon has of RDMA: a device found by its address, a listener, and the connections. Run by
// the control loop, which polls the events of the connection manager.
//
// Invariants: who asks without a token that a session waits for is refused, and costs nothing. An
// event is given back before it is acted upon, so that its id can be destroyed.

#include "link_rdma_end.h"

#include "clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKLOG   64
#define STEP_MS   4000
#define ACCEPT_NS (10 * NS_PER_S) /* from the ask until the source is heard */

static int parse(struct sockaddr_storage *out, const char *address, uint16_t port)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST}, *a;

	memset(out, 0, sizeof(*out));
	if (getaddrinfo(address, NULL, &hints, &a) != 0)
		return -EINVAL;
	memcpy(out, a->ai_addr, a->ai_addrlen);
	freeaddrinfo(a);
	if (out->ss_family == AF_INET)
		((struct sockaddr_in *)out)->sin_port = htons(port);
	else
		((struct sockaddr_in6 *)out)->sin6_port = htons(port);
	return 0;
}

static void text_of(const struct sockaddr *a, char *text, size_t bytes)
{
	socklen_t len =
		a->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);

	if (getnameinfo(a, len, text, (socklen_t)bytes, NULL, 0, NI_NUMERICHOST) != 0)
		snprintf(text, bytes, "?");
}

static int node_of(const char *device)
{
	char path[128];
	FILE *f;
	int node = -1;

	snprintf(path, sizeof(path), "/sys/class/infiniband/%.60s/device/numa_node", device);
	f = fopen(path, "re");
	if (f == NULL)
		return -1;
	if (fscanf(f, "%d", &node) != 1)
		node = -1;
	fclose(f);
	return node;
}

static int look_at_device(struct link_rdma_host *h, struct err *e)
{
	struct ibv_context *ctx = h->listener->verbs;
	struct link_rdma_info *i = &h->info;
	struct link_rdma_can can;
	struct ibv_port_attr port;
	int rc;

	snprintf(i->device, sizeof(i->device), "%s", ibv_get_device_name(ctx->device));
	rc = link_rdma_can_of(ctx, &can);
	if (rc == 0)
		rc = -ibv_query_port(ctx, h->listener->port_num, &port);
	if (rc != 0)
		return err_sys(
			e, rc < 0 ? -rc : EIO, "rdma: cannot ask what device %s can do", i->device);
	if (ctx->device->transport_type != IBV_TRANSPORT_IB)
		return err_set(e, ENOTSUP,
			"rdma: device %s is iWARP, which has no writes with immediate data; take "
			"RoCE or InfiniBand, or --link tcp",
			i->device);
	if (can.most_requests < RDMA_SENDS || can.most_completions < RDMA_SENDS + RDMA_RECVS_MOST)
		return err_set(e, ENOTSUP,
			"rdma: device %s has queues of %u requests and %u completions, %u and %u "
			"are needed",
			i->device, can.most_requests, can.most_completions, RDMA_SENDS,
			RDMA_SENDS + RDMA_RECVS_MOST);
	i->mtu = 128u << port.active_mtu;
	if (h->cfg.mtu > i->mtu)
		return err_set(e, EINVAL,
			"rdma: packets of device %s take %u bytes, not %u: raise the MTU of its "
			"interface, or take a smaller rdma-mtu",
			i->device, i->mtu, h->cfg.mtu);
	if (h->cfg.mtu != 0)
		i->mtu = h->cfg.mtu;
	h->down = port.state != IBV_PORT_ACTIVE;
	i->node = node_of(i->device);
	i->odp = can.odp;
	i->on_demand = h->cfg.on_demand;
	if (i->on_demand && !can.odp)
		return err_set(e, ENOTSUP,
			"rdma: device %s has no on-demand paging for reliable connections; leave "
			"rdma-odp out",
			i->device);
	i->most_mr = can.most_mr_bytes;
	if (h->cfg.window != 0 && h->cfg.window < i->most_mr)
		i->most_mr = h->cfg.window;
	h->most_sge = can.most_sge;
	return 0;
}

// So that reading what comes over it does not block.
static bool open_eyes(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

static int open_listener(struct link_rdma_host *h, struct err *e)
{
	const struct link_rdma_host_config *c = &h->cfg;
	struct sockaddr_storage at;

	if (parse(&h->own, c->address, 0) < 0 || parse(&at, c->address, c->port) < 0)
		return err_set(e, EINVAL,
			"rdma: %s is no IPv4 or IPv6 address; give that of an RDMA device",
			c->address);
	h->channel = rdma_create_event_channel();
	if (h->channel == NULL)
		return err_sys(e, errno,
			"rdma: this host has no RDMA connection manager: load the module rdma_ucm, "
			"and the driver of the device");
	if (!open_eyes(h->channel->fd) ||
		rdma_create_id(h->channel, &h->listener, NULL, RDMA_PS_TCP) != 0)
		return err_sys(e, errno, "rdma: cannot use the RDMA connection manager");
	if (rdma_bind_addr(h->listener, (struct sockaddr *)&at) != 0)
		return err_sys(e, errno,
			"rdma: cannot listen at %s port %u; see `godwit doctor` for the RDMA "
			"devices of this host",
			c->address, c->port);
	if (h->listener->verbs == NULL)
		return err_set(e, ENODEV,
			"rdma: no RDMA device has the address %s; see `godwit doctor` for those of "
			"this host",
			c->address);
	if (rdma_end_options(h, h->listener, e) < 0 || look_at_device(h, e) < 0)
		return -e->errnum;
	if (!open_eyes(h->listener->verbs->async_fd))
		return err_sys(e, errno, "rdma: cannot use device %s", h->info.device);
	if (rdma_listen(h->listener, BACKLOG) != 0)
		return err_sys(e, errno, "rdma: cannot listen at %s", c->address);
	h->info.port = ntohs(rdma_get_src_port(h->listener));
	return 0;
}

int link_rdma_host_open(
	struct link_rdma_host **out, const struct link_rdma_host_config *c, struct err *e)
{
	struct link_rdma_host *h = calloc(1, sizeof(*h));
	int rc;

	if (h == NULL)
		return err_set(e, ENOMEM, "rdma: no memory");
	LIST_INIT(&h->domains);
	LIST_INIT(&h->ends);
	LIST_INIT(&h->memories);
	h->v = &verbs_real;
	h->cfg = *c;
	snprintf(h->info.address, sizeof(h->info.address), "%s", c->address);
	h->cfg.address = h->info.address;
	h->info.trusted = c->trusted;
	rc = open_listener(h, e);
	if (rc < 0) {
		link_rdma_host_close(h);
		return rc;
	}
	*out = h;
	return 0;
}

void link_rdma_host_close(struct link_rdma_host *h)
{
	if (h == NULL)
		return;
	while (!LIST_EMPTY(&h->ends))
		rdma_end_free(LIST_FIRST(&h->ends));
	rdma_memory_reap(h, true);
	rdma_domain_orphan(h);
	if (h->listener != NULL)
		rdma_destroy_id(h->listener);
	if (h->channel != NULL)
		rdma_destroy_event_channel(h->channel);
	free(h);
}

void link_rdma_host_info(const struct link_rdma_host *h, struct link_rdma_info *i)
{
	*i = h->info;
}

bool link_rdma_host_gone(const struct link_rdma_host *h)
{
	return h->gone;
}

bool link_rdma_host_idle(const struct link_rdma_host *h)
{
	return LIST_EMPTY(&h->ends) && LIST_EMPTY(&h->memories) && LIST_EMPTY(&h->domains);
}

int link_rdma_host_fd(const struct link_rdma_host *h)
{
	return h->channel->fd;
}

int link_rdma_dial(struct link_rdma_domain *domain, struct link_rdma_end **end, const char *address,
	uint16_t port, const uint8_t token[LINK_RDMA_TOKEN_BYTES], uint32_t flow, uint64_t wait_ns,
	link_rdma_up_fn up, void *arg, struct err *e)
{
	struct link_rdma_host *h = domain->host;
	struct sockaddr_storage to;
	struct rdma_cm_id *id;
	struct link_rdma_end *d;

	if (rdma_host_can(h, e) < 0)
		return -e->errnum;
	if (parse(&to, address, port) < 0)
		return err_set(e, EINVAL, "rdma: %.60s is no address", address);
	if (rdma_create_id(h->channel, &id, NULL, RDMA_PS_TCP) != 0)
		return err_sys(e, errno, "rdma: cannot make a connection");
	d = rdma_end_options(h, id, e) == 0 ? rdma_end_new(domain, id, true, e) : NULL;
	if (d == NULL) {
		rdma_destroy_id(id);
		return -e->errnum;
	}
	snprintf(d->peer, sizeof(d->peer), "%.60s:%u", address, port);
	d->ask.flow = flow;
	memcpy(d->ask.token, token, sizeof(d->ask.token));
	d->state = RDMA_END_ADDRESS;
	d->until_ns = clock_ns() + wait_ns;
	if (rdma_resolve_addr(id, (struct sockaddr *)&h->own, (struct sockaddr *)&to, STEP_MS) !=
		0) {
		int rc = err_sys(
			e, errno, "rdma: cannot reach %s from %s", d->peer, h->info.address);

		rdma_end_free(d);
		return rc;
	}
	d->up = up;
	d->arg = arg;
	d->owner = end;
	*end = d;
	return 0;
}

// The id is destroyed where nothing becomes of it.
static void on_ask(struct link_rdma_host *h, struct rdma_cm_id *id, const struct rdma_said *said)
{
	struct link_rdma_ask ask = {0};
	struct link_rdma_welcome w = {0};
	struct rdma_hello_ask hello = {0};
	struct link_rdma_end *d = NULL;
	struct err e;

	text_of(rdma_get_peer_addr(id), ask.from, sizeof(ask.from));
	if (rdma_hello_get_ask(&hello, said->data, said->bytes) == 0) {
		ask.flow = hello.flow;
		memcpy(ask.token, hello.token, sizeof(ask.token));
		if (!h->cfg.asked(h->cfg.arg, &ask, &w))
			w.up = NULL;
	}
	if (w.up != NULL && rdma_host_can(h, &e) == 0)
		d = rdma_end_new(w.domain, id, false, &e);
	if (d == NULL) {
		(void)rdma_reject(id, NULL, 0);
		rdma_destroy_id(id);
		if (w.up != NULL)
			w.up(w.arg, NULL, &e);
		return;
	}
	snprintf(d->peer, sizeof(d->peer), "%.60s", ask.from);
	d->up = w.up;
	d->arg = w.arg;
	d->owner = w.end;
	d->ask = hello;
	if (d->owner != NULL)
		*d->owner = d;
	d->until_ns = clock_ns() + ACCEPT_NS;
	if (rdma_end_options(h, id, &e) == 0 && rdma_end_open(d, &e) == 0 &&
		rdma_end_accept(d, &e) == 0)
		return;
	(void)rdma_reject(id, NULL, 0);
	rdma_end_fail(d, &e);
}

// Ends whose time is up, and those that are being made on a device that is gone.
static void deadlines(struct link_rdma_host *h)
{
	uint64_t now = clock_ns();
	struct link_rdma_end *d = LIST_FIRST(&h->ends);
	struct err e;

	while (d != NULL) {
		bool late = d->until_ns != 0 && now > d->until_ns;

		if (late)
			rdma_end_late(d); // its callback may end others too
		else if (h->gone && d->state < RDMA_END_UP && rdma_host_can(h, &e) < 0)
			rdma_end_fail(d, &e);
		else {
			d = LIST_NEXT(d, next);
			continue;
		}
		d = LIST_FIRST(&h->ends);
	}
}

void link_rdma_host_poll(struct link_rdma_host *h)
{
	struct rdma_cm_event *event;

	/* First what the device says of its port: who asks just after it is up is not refused. */
	rdma_host_listen(h);
	while (rdma_get_cm_event(h->channel, &event) == 0) {
		struct rdma_said said = {.event = event->event, .status = event->status};
		struct rdma_cm_id *id = event->id;

		said.bytes = event->param.conn.private_data_len;
		if (event->event != RDMA_CM_EVENT_CONNECT_REQUEST &&
			event->event != RDMA_CM_EVENT_CONNECT_RESPONSE)
			said.bytes = 0;
		if (said.bytes > sizeof(said.data) || event->param.conn.private_data == NULL)
			said.bytes = 0;
		if (said.bytes > 0)
			memcpy(said.data, event->param.conn.private_data, said.bytes);
		(void)rdma_ack_cm_event(event);
		if (said.event == RDMA_CM_EVENT_CONNECT_REQUEST)
			on_ask(h, id, &said);
		else if (id != h->listener)
			rdma_end_event(id->context, &said);
		else if (said.event == RDMA_CM_EVENT_DEVICE_REMOVAL)
			rdma_host_gone(h);
	}
	rdma_host_listen(h);
	deadlines(h);
	rdma_memory_reap(h, false);
}
