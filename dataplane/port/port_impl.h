/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of a port share, and what its links use of it. */
#ifndef GODWIT_DATAPLANE_PORT_IMPL_H
#define GODWIT_DATAPLANE_PORT_IMPL_H

#include <rte_cycles.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>

/* DPDK's is an int; ours counts in 64 bits. */
#undef NS_PER_S
#include "clock.h"

#include "cpu.h"
#include "flow.h"
#include "neighbour.h"
#include "port.h"

#define PORT_BURST     32u
#define PORT_UDP_FIRST 49152u /* RFC 6335: for dynamic use */
#define PORT_LINKS     1024u  /* at most */
#define PORT_NOBODY    UINT8_MAX
#define PORT_SEGS      16u  /* external pieces of one packet, at most */
#define PORT_FORWARD   512u /* packets on their way to another lcore; a power of two */

#define PORT_RECLAIM_NS NS_PER_MS

struct link_nic;

enum port_polled {
	PORT_GONE,    /* no lcore has the poller, or one is letting go of it */
	PORT_POLLED,  /* the port is held */
	PORT_LEAVING, /* it is not; the lcore may let go */
};

struct port_queue {
	struct flow poller; /* of kind FLOW_PORT: polls the queue as long as the port is held */
	/* enum port_polled. control: POLLED and LEAVING, its lcore: LEAVING to GONE */
	_Atomic int polled;

	/* set at open, then read-only */
	struct port *port;
	uint16_t id; /* of the ethdev */
	uint16_t index;
	unsigned lcore;
	struct rte_mempool *rx_pool;
	struct rte_mempool *full_pool; /* a whole datagram fits into one */
	struct rte_mempool *hdr_pool;  /* zero copy: what stands before the pages */
	struct rte_mempool *ext_pool;  /* zero copy: without room; pages are attached */
	struct rte_ring *forward;      /* many producers: other lcores; consumer: this one */

	uint64_t reclaim_at_ns; /* lcore only */

	/* lcore: wo, control: ro */
	struct {
		_Atomic uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes, rx_strange, rx_nobody,
			rx_forwarded, rx_dropped, tx_full, neighbours;
	} n __cacheline;
};

/* A UDP port of ours. */
struct port_slot {
	_Atomic uint8_t queue; /* PORT_NOBODY: free. control: wo, lcores: ro */
	struct link_nic *link; /* NULL: none yet, or no more. lcore of the queue only */
	void *rule;            /* of rte_flow; control only */
};

struct port {
	struct port_info info;
	struct udp_own own;
	struct udp_addr gateway4, gateway6;
	bool has_gateway4, has_gateway6;
	uint8_t prefix4, prefix6;
	bool check_ip_sum;   /* the device does not */
	bool has_flow;       /* rte_flow steers */
	bool refused;        /* it has refused a rule, and that was noted */
	bool spreads;        /* RSS is on */
	struct port_rss rss; /* control only */
	bool copies;         /* the device has read a packet when it says that it took it */
	unsigned segs_most;
	unsigned rx_frame_bytes; /* the device's own buffers: as many must fit into ours */
	uint64_t ns_mult;        /* nanoseconds a cycle, times 2^32 */

	uint16_t id;
	struct rte_device *device;
	_Atomic unsigned windows; /* extmem_window objects; their threads take away */
	_Atomic unsigned ending;  /* of these such as wait for the device. The same */
	_Atomic bool closing;     /* control: wo */
	bool started;
	unsigned held;
	unsigned next_slot;
	struct neighbour_table neighbours;
	struct port_slot slot[PORT_LINKS];
	unsigned nqueues;
	struct port_queue *queue[PORT_QUEUES];
};

/* The clock of its lcores. */
static inline uint64_t port_now_ns(const struct port *p)
{
	return (uint64_t)((unsigned __int128)cpu_cycles() * p->ns_mult >> 32);
}

static inline void port_count(_Atomic uint64_t *v, uint64_t n)
{
	atomic_store_explicit(
		v, atomic_load_explicit(v, memory_order_relaxed) + n, memory_order_relaxed);
}

/* port_turn.c: one turn of a queue on its lcore. True when something came. */
bool port_turn(struct port_queue *q);
/* After flow_detach() of its poller, until it returns true. What the device holds of guest memory
 * it gives back to who polls it, so as long as there is such it is polled. */
bool port_leave(struct port_queue *q);
/* Lcore: sends a message of the neighbour protocols now, or not at all. */
void port_say(struct port_queue *q, const uint8_t *buf, size_t len);
/* Lcore: gives n packets to the device; returns how many it took. */
unsigned port_send(struct port_queue *q, struct rte_mbuf **m, unsigned n);
/* Lcore: gives the device one packet more, to itself, so that it looks at those that it has sent.
 */
void port_nudge(struct port_queue *q);
/* Lcore: packets for a UDP port go to this link; NULL: to nobody. */
void port_bind(struct port_queue *q, uint16_t udp_port, struct link_nic *link);

/* link_nic.c: a datagram came, whose headers are s. Takes the packet over. False: no room. */
bool link_nic_take(struct link_nic *l, struct rte_mbuf *m, const struct udp_seen *s);

/* port.c: makes queue n and chooses who polls it. */
int port_queue_new(struct port *p, unsigned n, struct err *e);
/* port_probe.c */
void port_note(struct port *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int port_probe(struct port *p, const struct port_config *c, struct err *e);
/* Stops the device, which lets go of all packets; then removes it. */
void port_stop(struct port *p);
void port_remove(struct port *p);
/* port_address.c */
int port_addresses(struct port *p, const struct port_config *c, struct err *e);
int port_next_hop(const struct port *p, const struct udp_addr *peer, struct udp_addr *hop);
int port_addr_of(struct udp_addr *a, uint16_t *udp_port, const struct sockaddr_storage *s);
/* port_rss.c: the queue on which datagrams of these addresses and ports come in; PORT_NOBODY: not
 * known. */
void port_rss_probe(struct port *p);
unsigned port_rss_queue(const struct port_rss *r, const struct udp_addr *from, uint16_t from_port,
	const struct udp_addr *to, uint16_t to_port);
/* port_steer.c: a rule, where the device takes one, for datagrams of that family. */
void port_steer_probe(struct port *p);
void port_steer(struct port *p, struct port_slot *s, uint16_t udp_port, bool v6);
void port_unsteer(struct port *p, struct port_slot *s);

#endif
