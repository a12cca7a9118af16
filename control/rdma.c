// SPDX-License-Identifier: BSD-3-Clause
// The daemon's RDMA device on the control loop. Its connections are made and ended by what comes
// over one descriptor, and by deadlines that a timer looks at.

#include "rdma.h"

#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct rdma {
	struct link_rdma_host *host;   /* NULL: the device was removed, and let go of */
	struct link_rdma_host **shown; /* the same for sessions, from the removal on NULL */
	struct event *readable, *tick;
	void (*removed)(void *arg);
	void *arg;
};

static void no_events(struct rdma *r)
{
	if (r->readable != NULL)
		event_free(r->readable);
	if (r->tick != NULL)
		event_free(r->tick);
	r->readable = r->tick = NULL;
}

/* Sessions that have it let go of it first; the system waits with the removal until then. */
static void removed(struct rdma *r)
{
	struct link_rdma_info i;

	if (*r->shown != NULL) {
		link_rdma_host_info(r->host, &i);
		log_error("rdma",
			"device %s was removed or has failed: no --link rdma until godwitd is "
			"started again; look in the kernel's log",
			i.device);
		*r->shown = NULL;
		r->removed(r->arg);
	}
	if (!link_rdma_host_idle(r->host))
		return;
	no_events(r);
	link_rdma_host_close(r->host);
	r->host = NULL;
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct rdma *r = arg;

	(void)fd;
	(void)what;
	link_rdma_host_poll(r->host);
	if (link_rdma_host_gone(r->host))
		removed(r);
}

static int watch(struct rdma *r, struct event_base *base, struct err *e)
{
	const struct timeval look = {.tv_usec = LINK_RDMA_LOOK_MS * 1000};

	r->readable =
		event_new(base, link_rdma_host_fd(r->host), EV_READ | EV_PERSIST, on_event, r);
	r->tick = event_new(base, -1, EV_PERSIST, on_event, r);
	if (r->readable == NULL || r->tick == NULL || event_add(r->readable, NULL) != 0 ||
		event_add(r->tick, &look) != 0)
		return err_set(e, ENOMEM, "rdma: no memory to watch its device");
	return 0;
}

static void say(const struct rdma *r)
{
	struct link_rdma_info i;

	link_rdma_host_info(r->host, &i);
	log_info("rdma", "device %s at %s port %u, packets of up to %u bytes%s", i.device,
		i.address, i.port, i.mtu, i.on_demand ? ", pages on demand" : "");
}

int rdma_start(struct rdma **out, struct link_rdma_host **host, struct event_base *base,
	const struct option_set *o,
	bool (*asked)(void *arg, const struct link_rdma_ask *ask, struct link_rdma_welcome *w),
	void (*removed_fn)(void *arg), void *arg, struct err *e)
{
	struct link_rdma_host_config c = {
		.address = option_text(o, "rdma"),
		.port = (uint16_t)option_number(o, "rdma-port"),
		.traffic_class = option_given(o, "rdma-traffic-class")
					 ? (int)option_number(o, "rdma-traffic-class")
					 : -1,
		.mtu = option_given(o, "rdma-mtu") ? (unsigned)atoi(option_text(o, "rdma-mtu")) : 0,
		.on_demand = option_number(o, "rdma-odp") != 0,
		.window = option_given(o, "rdma-window") ? option_number(o, "rdma-window") : 0,
		.trusted = strcmp(option_text(o, "rdma-fabric"), "trusted") == 0,
		.asked = asked,
		.arg = arg,
	};
	struct rdma *r;
	int rc;

	*out = NULL;
	*host = NULL;
	if (!option_given(o, "rdma"))
		return 0;
	r = calloc(1, sizeof(*r));
	if (r == NULL)
		return err_set(e, ENOMEM, "rdma: no memory");
	r->removed = removed_fn;
	r->arg = arg;
	rc = link_rdma_host_open(&r->host, &c, e);
	if (rc == 0)
		rc = watch(r, base, e);
	if (rc < 0) {
		rdma_stop(r);
		return rc;
	}
	say(r);
	r->shown = host;
	*host = r->host;
	*out = r;
	return 0;
}

void rdma_stop(struct rdma *r)
{
	if (r == NULL)
		return;
	no_events(r);
	link_rdma_host_close(r->host);
	free(r);
}

json_t *rdma_describe(const struct link_rdma_info *i)
{
	return json_pack("{s:s, s:s, s:i, s:i, s:i, s:b, s:b, s:b}", "device", i->device, "address",
		i->address, "port", i->port, "mtu", (int)i->mtu, "node", i->node, "odp", i->odp,
		"on_demand", i->on_demand, "trusted", i->trusted);
}

json_t *rdma_status(const struct link_rdma_host *h)
{
	struct link_rdma_info i;

	if (h == NULL)
		return json_null();
	link_rdma_host_info(h, &i);
	return rdma_describe(&i);
}
