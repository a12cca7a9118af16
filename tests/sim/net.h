/* SPDX-License-Identifier: BSD-3-Clause */
/* A network in one thread: events in the order of their time, and wires that delay, queue, lose,
 * repeat, overtake, spoil and mark. All chance comes from one seed. */
#ifndef GODWIT_TESTS_SIM_NET_H
#define GODWIT_TESTS_SIM_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../unit/seed.h"

#define NET_SPANS 8u

struct datagram {
	struct datagram *next; /* in the pool */
	size_t len;
	bool ce;
	uint8_t bytes[9216];
};

typedef void (*net_fn)(void *arg, struct datagram *d);

struct net_event {
	uint64_t at_ns, order;
	net_fn fn;
	void *arg;
	struct datagram *d;
};

struct net {
	struct seed seed;
	uint64_t now_ns;
	uint64_t order; /* of events at the same time: as they were added */
	uint64_t done;
	struct net_event *heap;
	size_t n, room;
	struct datagram *pool;
};

/* From `from` to `until` the wire is what `value` says. */
struct net_span {
	uint64_t from_ns, until_ns, value;
};

struct net_wire {
	struct net *net;
	uint64_t bytes_per_s;
	uint64_t delay_ns, jitter_ns; /* jitter keeps the order */
	uint64_t queue_bytes;         /* more are dropped */
	uint64_t mark_bytes;          /* more are marked; 0: never */
	uint32_t mtu;
	/* in parts of 65536 */
	uint32_t lose, duplicate, corrupt, overtake, replay, forge;
	uint32_t burst_begin, burst_end; /* of losing all */
	uint64_t overtake_ns;            /* at most */
	struct net_span black[NET_SPANS], slow[NET_SPANS],
		narrow[NET_SPANS]; /* value: -, ns, mtu */

	bool in_burst;
	uint64_t free_ns;  /* when the queue will be empty */
	uint64_t last_ns;  /* when the last one arrives */
	uint64_t watch_ns; /* the queue is watched from then on */
	uint64_t most_queued, sum_queued, nqueued, dropped, carried;
};

void net_init(struct net *n, uint64_t seed);
void net_free(struct net *n);
struct datagram *net_datagram(struct net *n);
void net_drop(struct net *n, struct datagram *d);
void net_at(struct net *n, uint64_t at_ns, net_fn fn, void *arg, struct datagram *d);
/* The next event; false when there is none. */
bool net_step(struct net *n);
/* Sends d, which the wire owns from now on; ip_bytes is its size on the wire. */
void net_send(struct net_wire *w, struct datagram *d, uint32_t ip_bytes, net_fn fn, void *arg);
/* True with a chance of parts in 65536. */
bool net_chance(struct net *n, uint32_t parts);

#endif
