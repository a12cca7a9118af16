/* SPDX-License-Identifier: BSD-3-Clause */
/* A DPDK ethdev port that Godwit owns: any poll-mode driver that DPDK has. Links of nic flows
 * (link_nic.h) share its queues. Each queue is polled by one worker lcore, fixed when the port is
 * opened. Godwit answers and asks for neighbours (ARP, neighbour discovery) on it by itself.
 *
 * Control thread only, all functions. Order: eal_start(), port_open(), port_hold(), links and their
 * flows, port_release(), port_close(), eal_stop(). */
#ifndef GODWIT_DATAPLANE_PORT_H
#define GODWIT_DATAPLANE_PORT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "err.h"

#define PORT_QUEUES      64u /* at most, as a session has flows, */
#define PORT_QUEUES_SELF 16u /* and where nobody says how many: each takes memory */
#define PORT_NAME        64u
#define PORT_MTU_LEAST   1280u
#define PORT_MTU_MOST    65000u
#define PORT_NOTES       8u
#define PORT_NOTE_BYTES  160u
#define PORT_RETA        2048u /* entries of a device's table of queues, at most */
#define PORT_RSS_KEY     64u   /* bytes of its key, at most, and */
#define PORT_RSS_LEAST   40u   /* at least: what a hash over two IPv6 addresses and ports takes */

enum port_choice { PORT_AUTO, PORT_YES, PORT_NO };

/* What an operator says of a port. Strings are read by port_open() only. */
struct port_config {
	const char *name; /* what people call it; shorter than PORT_NAME */
	/* A PCI address ("0000:81:00.0", with options after a comma; eal_config.pci has to name
	 * it), or a virtual device: "net_memif0,role=client,id=0,socket=/run/x.sock,bsize=9216",
	 * "net_af_packet0,iface=eth1,qpairs=4", "virtio_user0,path=/run/x.sock,queues=4",
	 * "net_vhost0,iface=/run/x.sock,queues=4". */
	const char *device;
	unsigned queues; /* 0: one a worker lcore, up to PORT_QUEUES_SELF and what the device has */
	unsigned rx_descriptors; /* of a queue; 0: what the device prefers, else 1024 */
	unsigned tx_descriptors;
	unsigned mtu; /* of IP packets; 0: 1500 */
	/* One of them or both: "192.0.2.7/24", "2001:db8::7/64". NULL: none. */
	const char *ipv4, *ipv6;
	/* Next hop of what is outside of the prefix; NULL: peers must be inside. */
	const char *ipv4_gateway, *ipv6_gateway;
	unsigned vlan; /* 1 to 4094: tag of all packets; 0: none */
	/* Pages leave guest memory by the device itself. YES fails where it can't be, with the
	 * reason; AUTO takes it where it is known to work, and says what it chose. */
	enum port_choice zero_copy;
};

/* What a port is and what was chosen, for status, report and doctor. */
struct port_info {
	char name[PORT_NAME];
	char driver[32]; /* "net_memif" */
	int node;        /* NUMA node of the device, or -1 */
	uint8_t mac[6];
	unsigned queues;
	unsigned rx_descriptors, tx_descriptors;
	unsigned mtu;  /* of IP packets: what a link may be told as mtu_most */
	unsigned vlan; /* 0: none */
	/* Port of the address is 0; ss_family AF_UNSPEC: none. */
	struct sockaddr_storage ipv4, ipv6;
	bool link_up;
	unsigned speed_mbps;            /* 0: not known */
	bool ip_checksum, udp_checksum; /* on transmit, by the device */
	bool rx_checksum;
	bool multi_seg; /* a packet may be a chain of buffers */
	bool zero_copy; /* of what is not sealed */
	bool maps;      /* zero copy takes guest memory mapped for the device: extmem_window.h */
	bool must_zero_copy;   /* the operator wants nothing else */
	const char *must_copy; /* without zero_copy: why; constant text */
	const char *steering;  /* "rte_flow", "rss", "software" */
	unsigned nnotes;       /* sentences: what was chosen and why, what would make it faster */
	char note[PORT_NOTES][PORT_NOTE_BYTES];
};

/* Counters of a port, by its lcores; sums over queues. */
struct port_counts {
	uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes;
	uint64_t rx_strange;   /* not for us, or not IP over UDP, or malformed */
	uint64_t rx_nobody;    /* for a UDP port that no link has */
	uint64_t rx_forwarded; /* came in on another lcore's queue */
	uint64_t rx_dropped;   /* no room at the lcore that it was for */
	uint64_t tx_full;      /* times that the device took less than it was given */
	uint64_t neighbours;   /* requests answered */
};

/* How a device spreads what comes in by a Toeplitz hash of addresses and ports, as it tells. */
struct port_rss {
	bool udp4, udp6; /* it does that with datagrams of these */
	uint8_t key[PORT_RSS_KEY] __attribute__((aligned(4)));
	uint8_t key_bytes;
	uint16_t entries;
	uint8_t queue[PORT_RETA];
};

struct port;

/* Checks what can be checked without the device. 0 or -EINVAL with e set. */
int port_config_check(const struct port_config *c, struct err *e);

/* Probes the device, asks for its capabilities, configures it, makes all pools, starts it. 0, or
 * -errno with e set: what is wrong and what to do. */
int port_open(struct port **p, const struct port_config *c, struct err *e);
/* Stops and removes the device. No link is open on it; released as often as it was held. Waits
 * for the lcores to let go, and for guest memory to be unmapped, at most seconds each. NULL is
 * allowed. */
void port_close(struct port *p);

void port_info(struct port *p, struct port_info *i);
void port_counts(const struct port *p, struct port_counts *c);

/* As long as it is held the lcores of all queues poll them, so that neighbours are answered before
 * a flow is there; and after that as long as the device holds pages of windows (extmem_window.h),
 * as a card does whose cable is cut. Held before its first link is opened, released after the last
 * one is closed. Counts. -ENOSPC: an lcore serves LCORE_FLOWS already. */
int port_hold(struct port *p);
void port_release(struct port *p);

/* The queue with the fewest links, of equal ones one whose lcore is on this NUMA node (-1: any),
 * and its lcore: a flow on that link must be on that lcore. */
unsigned port_pick_queue(const struct port *p, int node);
unsigned port_queue_lcore(const struct port *p, unsigned queue);

/* The other end of a link, as far as it is known: its address, its UDP port (0: not yet), how its
 * device spreads what comes (NULL: not known), and on which queue there it wants what we send. */
struct port_peer {
	struct sockaddr_storage address;
	const struct port_rss *rss;
	unsigned queue;
};

/* A UDP port that no link has, for a link on this queue; given back by link_nic's close, or by
 * port_udp_give() where no link was opened on it. 0: none is left. With a peer, one that brings
 * what both ends send to the queues that want it, as far as it is known how they spread. NULL: any,
 * of the family that the port has, or IPv4. */
uint16_t port_udp_take(struct port *p, unsigned queue, const struct port_peer *peer);
void port_udp_give(struct port *p, uint16_t udp_port);

/* How the port's device spreads; NULL: it does not tell. */
const struct port_rss *port_rss(const struct port *p);

/* "192.0.2.7" or "2001:db8::7" and a UDP port: for messages between daemons. 0 or -EINVAL. */
int port_address_parse(struct sockaddr_storage *a, const char *text, uint16_t udp_port);
#define PORT_ADDRESS_TEXT 48u
void port_address_text(const struct sockaddr_storage *a, char text[PORT_ADDRESS_TEXT]);

#endif
