/* SPDX-License-Identifier: BSD-3-Clause */
/* The nic link: a flow's frames over UDP datagrams on a queue of a DPDK port, by the protocol of
 * PROTOCOL.md, section 5. The next hop is found by the link itself, on its lcore.
 *
 * How both sides open a flow: each picks a queue and a UDP port of its DPDK port
 * (port_pick_queue(), port_udp_take()), makes a random token for what it wants to receive, and
 * tells the other over the control connection: address, UDP port, token, MTU of its port. Then each
 * opens its link with the other's words, and attaches the flow to port_queue_lcore(). Datagrams
 * that come before are not lost for good: they are sent again.
 *
 * How a flow ends: flow_detach() on both sides. The lcore says goodbye first, and lets go when the
 * peer has answered, or after bye_ns. */
#ifndef GODWIT_DATAPLANE_LINK_NIC_H
#define GODWIT_DATAPLANE_LINK_NIC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "err.h"
#include "extmem_window.h"
#include "link.h"
#include "port.h"

/* Both ends must mean the same; a message between daemons may carry them. */
#define LINK_NIC_FRAMES     1024u
#define LINK_NIC_RING_BYTES (UINT64_C(32) << 20)

/* Datagrams that this end loses on purpose before they leave: for tests and measurements, asked for
 * by name. Parts of 65536. */
struct link_nic_faults {
	uint32_t lose;
	uint64_t seed;
};

struct link_nic_config {
	struct port *port;
	unsigned queue;
	bool source;                  /* which side of the flow this is */
	uint16_t udp_port;            /* own; from port_udp_take() */
	struct sockaddr_storage peer; /* address and UDP port; of a family that the port has */
	uint64_t token_out, token_in; /* the peer's, and the own one */
	unsigned mtu_most;            /* the smaller of both ports' mtu */
	uint32_t frames;              /* in flight; 0: LINK_NIC_FRAMES */
	uint64_t ring_bytes;          /* 0: LINK_NIC_RING_BYTES */
	/* Source, where port_info.maps: the guest's memory as the device may read it; NULL: all is
	 * copied. lane: this flow's. Freed after the link. */
	struct extmem_window *windows;
	unsigned lane;
	uint64_t dead_ns;    /* silence after which the peer is dead; 0: 30 s */
	uint64_t resolve_ns; /* for finding the next hop; 0: 5 s */
	uint64_t barrier_ns; /* source: a barrier, and nothing acknowledged for so long, pings
			      * included: gives up what is missing, so that control sees it as lost;
			      * 0: never
			      */
	struct link_nic_faults faults;
};

/* Opens it on a port that is held. 0 or -errno with e set; the UDP port is then still the caller's.
 * close: control thread, after the lcore let go of the flow. */
int link_nic_open(struct link **l, const struct link_nic_config *c, struct err *e);

/* What happened on the link so far, for report and metrics. Any thread; while it runs a little
 * old. */
struct link_nic_info {
	uint32_t mtu; /* proven for the path */
	uint64_t rtt_ns, rate_bytes_per_s, window_bytes;
	uint64_t packets_out, packets_in, lost, spurious, timeouts, bad;
	bool zero_copy;
};
void link_nic_info(const struct link *l, struct link_nic_info *i);

#endif
