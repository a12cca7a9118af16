/* SPDX-License-Identifier: BSD-3-Clause */
/* One connection of the rdma link, from the first word to the last: its id of the connection
 * manager, its queue pair, and the link on it. Control thread only.
 *
 * An end is made to dial or to accept; its up is called once; then the link is its user's, until
 * that closes it. A closed end lingers: the source says goodbye and waits for the answer, the
 * target waits for the goodbye, so that the last acknowledgement on the wire can be said again.
 * Each has its deadline. Nobody waits for an end that lingers. */
#ifndef GODWIT_DATAPLANE_LINK_RDMA_END_H
#define GODWIT_DATAPLANE_LINK_RDMA_END_H

#include <rdma/rdma_cma.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "link_rdma_impl.h"
#include "link_rdma_memory.h"

#define RDMA_PRIVATE_BYTES 256u /* of any event; the connection manager has less */

enum rdma_end_state {
	RDMA_END_ADDRESS, /* source: finds the way to the address */
	RDMA_END_ROUTE,
	RDMA_END_CONNECT,
	RDMA_END_ACCEPT, /* target: accepted, not yet heard */
	RDMA_END_UP,     /* the link is its user's */
	RDMA_END_LEAVING,
};

struct link_rdma_domain {
	LIST_ENTRY(link_rdma_domain) next;
	struct link_rdma_host *host; /* NULL: it was closed */
	struct ibv_pd *pd;
	unsigned users; /* the session, ends, memories */
};

struct link_rdma_end {
	LIST_ENTRY(link_rdma_end) next;
	struct link_rdma_host *host;
	struct link_rdma_domain *domain;
	struct rdma_cm_id *id;
	struct ibv_qp *qp;
	struct ibv_cq *cq; /* of sends and receives */
	uint32_t mtu;      /* of the path, once its queue pair is connected */
	struct link *link;
	enum rdma_end_state state;
	bool source;
	bool over; /* the peer has said goodbye, or the device is gone */
	uint64_t until_ns;
	char peer[LINK_RDMA_ADDRESS_BYTES + 8];
	link_rdma_up_fn up; /* NULL once called */
	void *arg;
	struct link_rdma_end **owner; /* to be cleared */
	struct rdma_hello_ask ask;
};

struct link_rdma_host {
	const struct verbs *v;
	struct link_rdma_host_config cfg;
	struct link_rdma_info info;
	struct sockaddr_storage own; /* without a port */
	bool gone;                   /* the device is */
	bool down;                   /* its port is */
	struct rdma_event_channel *channel;
	struct rdma_cm_id *listener;
	unsigned most_sge; /* of a request of its */
	LIST_HEAD(, link_rdma_domain) domains;
	LIST_HEAD(, link_rdma_end) ends;
	LIST_HEAD(, link_rdma_memory) memories; /* whose thread was not joined */
};

/* link_rdma_qp.c: makes d->qp and d->cq, ready for receives to be posted; of *c, what a request
 * may have. 0 or -errno with e set. */
int rdma_qp_new(struct link_rdma_end *d, struct link_rdma_config *c, struct err *e);
/* Connects it with the peer's, by what the connection manager knows of both; sets d->mtu: most, or
 * what the path takes where that is less. 0 or -errno with e set. */
int rdma_qp_connect(struct link_rdma_end *d, uint32_t most, struct err *e);
/* From here on it takes nothing, and the peer is told. Not 0: it can't be had. */
int rdma_qp_leave(struct link_rdma_end *d);
/* Destroys both, where they are. */
void rdma_qp_free(struct link_rdma_end *d);

/* An event as it was, without what belongs to it. */
struct rdma_said {
	enum rdma_cm_event_type event;
	int status;
	size_t bytes;
	uint8_t data[RDMA_PRIVATE_BYTES];
};

struct link_rdma_domain *rdma_domain_use(struct link_rdma_domain *d);
/* The host is closed: sessions that still have a domain have nothing of the device. */
void rdma_domain_orphan(struct link_rdma_host *h);
/* Makes an end around an id, which stays the caller's when that fails: NULL with e set. */
struct link_rdma_end *rdma_end_new(
	struct link_rdma_domain *domain, struct rdma_cm_id *id, bool source, struct err *e);
/* Queue pair and link. 0 or -errno. */
int rdma_end_open(struct link_rdma_end *d, struct err *e);
/* Tells the user why it came to nothing, and frees it. */
void rdma_end_fail(struct link_rdma_end *d, const struct err *why);
/* The link is the user's from here on. */
void rdma_end_up(struct link_rdma_end *d);
void rdma_end_free(struct link_rdma_end *d);
/* Target: accepts what was opened. 0 or -errno. */
int rdma_end_accept(struct link_rdma_end *d, struct err *e);
void rdma_end_event(struct link_rdma_end *d, const struct rdma_said *said);
/* link_rdma_event.c: reads what the device says, which does not block; what is done about it; and
 * where the connection manager says that it was removed. */
void rdma_host_listen(struct link_rdma_host *h);
void rdma_host_said(struct link_rdma_host *h, const struct ibv_async_event *ev);
void rdma_host_gone(struct link_rdma_host *h);
/* Is there a device for a new connection? 0, or -ENODEV, -ENETDOWN with e set. */
int rdma_host_can(const struct link_rdma_host *h, struct err *e);
/* link_rdma_memory.c: lets go of memory whose thread has ended, or waits for all of them. */
void rdma_memory_reap(struct link_rdma_host *h, bool wait);
/* Its deadline has passed. */
void rdma_end_late(struct link_rdma_end *d);
/* Traffic class and time-outs, before a connection is made. 0 or -errno. */
int rdma_end_options(const struct link_rdma_host *h, struct rdma_cm_id *id, struct err *e);

#endif
