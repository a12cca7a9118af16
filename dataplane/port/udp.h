/* SPDX-License-Identifier: BSD-3-Clause */
/* Ethernet, VLAN, IPv4, IPv6 and UDP headers of the nic link: written for one peer, read from
 * anybody. Pure; polling cores run it. IPv4 is RFC 791, IPv6 RFC 8200, UDP RFC 768, ECN RFC 3168,
 * VLAN tags IEEE 802.1Q. Fragments and IPv6 extension headers are nobody's here: Godwit sends none,
 * its packets carry "don't fragment". */
#ifndef GODWIT_DATAPLANE_UDP_H
#define GODWIT_DATAPLANE_UDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UDP_MAC_BYTES   6u
#define UDP_ETHER_BYTES 14u
#define UDP_VLAN_BYTES  4u
#define UDP_IP4_BYTES   20u
#define UDP_IP6_BYTES   40u
#define UDP_BYTES       8u
#define UDP_HDR_MOST    (UDP_ETHER_BYTES + UDP_VLAN_BYTES + UDP_IP6_BYTES + UDP_BYTES)

#define UDP_TYPE_IP4  0x0800u
#define UDP_TYPE_ARP  0x0806u
#define UDP_TYPE_VLAN 0x8100u
#define UDP_TYPE_IP6  0x86ddu
#define UDP_PROTO     17u
#define UDP_PROTO_IC6 58u

/* An address; of IPv4 the first 4 bytes, the others are 0. */
struct udp_addr {
	uint8_t ip[16];
	bool v6;
};

/* What a port answers to. */
struct udp_own {
	uint8_t mac[UDP_MAC_BYTES];
	uint16_t vlan; /* 0: none */
	bool has4, has6;
	struct udp_addr ip4, ip6;
};

/* The headers of all datagrams to one peer, but for lengths and sums. */
struct udp_head {
	uint8_t hdr[UDP_HDR_MOST];
	uint8_t bytes; /* of hdr */
	uint8_t l2_bytes, l3_bytes;
	bool v6;
	uint32_t ip_sum;     /* of the IPv4 header, without its length */
	uint32_t pseudo_sum; /* of the pseudo header, without the length */
};

/* Who sums a datagram. The page protocol has a tag of its own that is stronger. */
enum udp_summing {
	UDP_SUM_NONE,   /* IPv4 may do without: 0 */
	UDP_SUM_DEVICE, /* the field holds the sum of the pseudo header, as devices want it */
	UDP_SUM_SOFT,   /* udp_put_sum() follows */
};

/* Ports in host order. The peer's MAC is zeros until udp_head_mac(). */
void udp_head_init(struct udp_head *h, const struct udp_own *own, uint16_t own_port,
	const struct udp_addr *peer, uint16_t peer_port);
void udp_head_mac(struct udp_head *h, const uint8_t mac[UDP_MAC_BYTES]);

/* Writes h->bytes to buf, for a datagram of payload_bytes. device_ip_sum: leave the IPv4 sum 0. */
void udp_put(const struct udp_head *h, uint8_t *buf, uint32_t payload_bytes, bool device_ip_sum,
	enum udp_summing summing);
/* Sets the UDP checksum in what udp_put() wrote; payload_sum: of udp_sum() over the payload. */
void udp_put_sum(const struct udp_head *h, uint8_t *buf, uint32_t payload_sum);

/* Internet checksum (RFC 1071), not yet folded nor inverted: goes on from sum. All pieces but the
 * last have an even length. */
uint32_t udp_sum(uint32_t sum, const uint8_t *buf, size_t len);
uint16_t udp_fold(uint32_t sum);

enum udp_kind {
	UDP_STRANGE,  /* not for us, or malformed */
	UDP_DATAGRAM, /* all fields of struct udp_seen are set */
	UDP_ARP,
	UDP_ICMP6, /* to one of our addresses or a multicast one */
};

struct udp_seen {
	struct udp_addr from;
	uint16_t from_port, to_port;
	bool ce;   /* the network saw congestion */
	size_t at; /* of the payload; of ARP and ICMPv6: of what follows Ethernet, or the VLAN tag
		    */
	size_t bytes; /* of the payload, all within len */
};

/* Reads the headers of a frame of len bytes, of which the first `have` are at buf. The IPv4 sum is
 * checked if check_ip_sum says so. UDP sums are not: the datagram's tag is. */
enum udp_kind udp_parse(const struct udp_own *own, const uint8_t *buf, size_t have, size_t len,
	bool check_ip_sum, struct udp_seen *s);

static inline uint16_t udp_be16(uint16_t v)
{
	return (uint16_t)(v << 8 | v >> 8);
}

bool udp_addr_equal(const struct udp_addr *a, const struct udp_addr *b);

#endif
