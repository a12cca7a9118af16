/* SPDX-License-Identifier: BSD-3-Clause */
/* The rdma link: a flow's frames over one reliable connected queue pair (InfiniBand or RoCE v2), by
 * PROTOCOL.md, section 6. Frames with a payload are written into a ring of slots at the target by
 * RDMA WRITE with immediate data; frames without one, and answers, are small messages.
 *
 * struct link_rdma_host is what a daemon has of RDMA: one address, whose device it uses, where it
 * listens and from where it dials. Everything in this header is for the control thread. */
#ifndef GODWIT_DATAPLANE_LINK_RDMA_H
#define GODWIT_DATAPLANE_LINK_RDMA_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "link.h"
#include "region.h"

#define LINK_RDMA_VERSION       2u
#define LINK_RDMA_TOKEN_BYTES   16u
#define LINK_RDMA_ADDRESS_BYTES 64u
#define LINK_RDMA_DEVICE_BYTES  64u
#define LINK_RDMA_PORTS         4u /* of a device, that are asked */

struct link_rdma_host;
struct link_rdma_pool;
struct link_rdma_end; /* a connection being made */

/* What the queue pairs and the registered memory of one session share, and no other session has: a
 * protection domain of the device. */
struct link_rdma_domain;
int link_rdma_domain_new(struct link_rdma_domain **d, struct link_rdma_host *h, struct err *e);
/* What is in it keeps it as long as it needs it. NULL is allowed. */
void link_rdma_domain_free(struct link_rdma_domain *d);

/* Called once for each dial or accepted ask: with a connected link, which the callee then owns, or
 * with NULL and the reason. */
typedef void (*link_rdma_up_fn)(void *arg, struct link *l, const struct err *why);

/* Somebody wants to be the source of a flow. */
struct link_rdma_ask {
	uint8_t token[LINK_RDMA_TOKEN_BYTES];
	uint32_t flow;
	char from[LINK_RDMA_ADDRESS_BYTES];
};

/* What the owner of the session that has this token says. */
struct link_rdma_welcome {
	struct link_rdma_domain *domain; /* of the session */
	link_rdma_up_fn up;
	void *arg;
	struct link_rdma_end **end; /* set while the connection is being made, then NULL */
};

struct link_rdma_host_config {
	const char *address; /* of an RDMA device: IPv4 or IPv6, without a port */
	uint16_t port;       /* to listen on; 0: any */
	int traffic_class;   /* of packets; -1: as the system has it */
	unsigned mtu;        /* payload of a packet, at most: 256 to 4096, a power of two; 0: any */
	bool on_demand;      /* guest memory is registered without being locked; see odp */
	uint64_t window;     /* guest memory is registered in pieces of so much, at most; 0: any */
	bool trusted;        /* who can use this fabric may read and write guests; see info */
	/* False: nobody waits with this token for this flow; the ask is refused. */
	bool (*asked)(void *arg, const struct link_rdma_ask *ask, struct link_rdma_welcome *w);
	void *arg;
};

struct link_rdma_info {
	char device[LINK_RDMA_DEVICE_BYTES];
	char address[LINK_RDMA_ADDRESS_BYTES];
	uint16_t port;           /* where it listens */
	unsigned mtu;            /* bytes of a packet's payload, at most */
	int node;                /* NUMA node of the device, or -1 */
	bool odp;                /* on-demand paging of reliable connections */
	uint64_t most_mr;        /* largest memory region, bytes, as the host was configured */
	bool trusted, on_demand; /* as the host was configured */
};

/* What a device of this host says that it can do. */
struct link_rdma_can {
	char device[LINK_RDMA_DEVICE_BYTES];
	uint64_t most_mr_bytes; /* of one memory region */
	unsigned most_mrs, most_queues;
	unsigned most_requests, most_completions; /* of one queue */
	unsigned most_sge;                        /* pieces of memory in one request */
	bool odp;                                 /* on-demand paging of reliable connections */
	unsigned mtu[LINK_RDMA_PORTS]; /* payload of a packet, of port 1 and so on; 0: unknown */
};
/* Of those that can be opened. Returns how many; 0 where this was built without rdma-core. */
unsigned link_rdma_probe(struct link_rdma_can *can, unsigned most);

/* -ENOTSUP: built without rdma-core. */
int link_rdma_host_open(
	struct link_rdma_host **h, const struct link_rdma_host_config *c, struct err *e);
/* No end and no link is left but those that linger; NULL is allowed. */
void link_rdma_host_close(struct link_rdma_host *h);
void link_rdma_host_info(const struct link_rdma_host *h, struct link_rdma_info *i);
/* The device was removed or has failed: no dial and no memory any more. Once nothing of it is in
 * use it is to be closed. */
bool link_rdma_host_gone(const struct link_rdma_host *h);
bool link_rdma_host_idle(const struct link_rdma_host *h);
#define LINK_RDMA_LOOK_MS 100u
/* Readable: link_rdma_host_poll() has something to do. Call that every LINK_RDMA_LOOK_MS too. It
 * makes the callbacks. */
int link_rdma_host_fd(const struct link_rdma_host *h);
void link_rdma_host_poll(struct link_rdma_host *h);

/* Dials the host that listens at address and port. The answer comes by up, within wait_ns. */
int link_rdma_dial(struct link_rdma_domain *domain, struct link_rdma_end **end, const char *address,
	uint16_t port, const uint8_t token[LINK_RDMA_TOKEN_BYTES], uint32_t flow, uint64_t wait_ns,
	link_rdma_up_fn up, void *arg, struct err *e);
/* Gives up an end whose up was not called; it will not be. NULL is allowed. */
void link_rdma_cancel(struct link_rdma_end *end);

/* The target's guest memory, for sources that write raw pages to their place by themselves. */
struct link_rdma_memory;
struct link_rdma_key {
	uint64_t addr; /* of the region's first byte, as the target's device knows it */
	uint32_t rkey;
	bool there; /* false: the region is not registered */
};
struct link_rdma_registered {
	uint64_t bytes; /* by turns: the most at a time */
	uint64_t register_ns, deregister_ns;
	int refused; /* source: the errno for which the rest is copied; 0: none */
};
/* Begins to register the regions of which[], whose memory is all there; in windows where a region
 * is larger than most_mr. map lives as long. None of these functions waits. */
int link_rdma_memory_new(struct link_rdma_memory **m, struct link_rdma_domain *d,
	struct region_map *map, const bool which[REGION_MAX], struct err *e);
/* The same at the source, of all that is populated, for the device to read: flows copy what is not,
 * or not yet, registered. walk tells populated runs of a file's [offset, offset + len), in order;
 * it is called by another thread. Only for a VMM that gives no page of the guest back meanwhile:
 * the device would go on to read it where it was. Until flows that have it are freed it is not to
 * be ended. */
typedef int (*link_rdma_walk)(int fd, uint64_t offset, uint64_t len,
	int (*run)(void *arg, uint64_t offset, uint64_t bytes), void *arg);
int link_rdma_memory_lend(struct link_rdma_memory **m, struct link_rdma_domain *d,
	struct region_map *map, link_rdma_walk walk, struct err *e);
/* 1: it is; 0: not yet; -errno with e set, and nothing is registered. */
int link_rdma_memory_ready(const struct link_rdma_memory *m, struct err *e);
/* Then: how many windows a region has, 0 where it is not registered, and how large each but the
 * last is; and the key of one. */
uint32_t link_rdma_memory_windows(
	const struct link_rdma_memory *m, unsigned region, uint64_t *window_bytes);
bool link_rdma_memory_key(const struct link_rdma_memory *m, unsigned region, uint32_t window,
	struct link_rdma_key *k);
/* The same where not all of it may be locked: which windows of window_bytes, a power of two, are
 * registered is asked for one by one, no more than most at a time. They are numbered through the
 * regions of which[] in their order. It is ready at once. */
int link_rdma_memory_turns(struct link_rdma_memory **m, struct link_rdma_domain *d,
	struct region_map *map, const bool which[REGION_MAX], uint64_t window_bytes, uint32_t most,
	struct err *e);
/* Begins to register a window, or to take it back; what is asked is done in order. -EPROTO: there
 * is no such window, it is, or is not, registered or asked for, or there are too many. */
int link_rdma_memory_want(struct link_rdma_memory *m, uint64_t window);
int link_rdma_memory_drop(struct link_rdma_memory *m, uint64_t window);
struct link_rdma_said {
	uint32_t window, rkey;
	int refused; /* errno for which it is not registered; 0: it is */
};
/* What came of a want, once for each, in order. False: of none. */
bool link_rdma_memory_said(struct link_rdma_memory *m, struct link_rdma_said *said);
/* Something that was asked is not done. */
bool link_rdma_memory_busy(const struct link_rdma_memory *m);
/* Again and again until it is true: no window is registered, and nothing is to be said. */
bool link_rdma_memory_forget(struct link_rdma_memory *m);

/* Begins to take it back; once it has ended no device can write it any more. */
void link_rdma_memory_end(struct link_rdma_memory *m);
bool link_rdma_memory_ended(const struct link_rdma_memory *m);
/* What was registered so far, and how long that took. */
void link_rdma_memory_figures(const struct link_rdma_memory *m, struct link_rdma_registered *r);
/* Where it has not ended, that goes on, and the mappings of its regions go with it: their base in
 * the map is NULL then. NULL is allowed. */
void link_rdma_memory_free(struct link_rdma_memory *m);

/* Before the flow is made, and not with a seal. Source: raw pages of regions that have a key are
 * written to their place; keys is an array by region that outlives the link. Target: they may be.
 */
void link_rdma_direct(struct link *l, const struct link_rdma_key *keys);
/* Source, before the flow is made, and not with a seal: raw pages are not copied where `from` has
 * them registered. NULL: all are. */
void link_rdma_read(struct link *l, const struct link_rdma_memory *from);
/* Source: connections broke on this network. Pages go in small writes: a device counts its tries
 * for each, and each lost packet costs one. */
void link_rdma_careful(struct link *l);

/* Source, after that: keys of regions that are registered in windows, an array by region that
 * outlives the link. */
struct link_rdma_windows {
	uint32_t chunks;                 /* of a window; 0: the region has none, see keys */
	const struct link_rdma_key *key; /* by window */
};
void link_rdma_windows(struct link *l, const struct link_rdma_windows *windows);

/* Source, after link_rdma_direct(): the target's memory is registered by turns; the pool outlives
 * the link, and nobody else is this lane of it. */
void link_rdma_by_turns(struct link *l, struct link_rdma_pool *pool, unsigned lane);

/* Payload of its packets, bytes: what both hosts and the path take. */
unsigned link_rdma_mtu(const struct link *l);

/* Locked memory that one flow needs, bytes. */
uint64_t link_rdma_locked_bytes(void);
/* May this process lock what so many flows need, and so much of a guest? root: where /proc is, ""
 * on a host. 0 or -ENOMEM with e set. */
int link_rdma_locked_check(const char *root, unsigned flows, uint64_t guest_bytes, struct err *e);
/* Where it may not: windows, a power of two of at least least_bytes and at most most_bytes, of
 * which some can be locked at a time, beside the flows and those that come after a cut. False: too
 * few. */
bool link_rdma_locked_turns(const char *root, unsigned flows, uint64_t least_bytes,
	uint64_t most_bytes, uint64_t *window_bytes, uint32_t *most);

#endif
