// SPDX-License-Identifier: BSD-3-Clause
// Headers around the datagrams of the nic link. Run by polling cores; pure.
//
// Invariants: what parse calls a datagram lies within the frame, is for our MAC (or all), our VLAN
// and one of our addresses, and is whole. Nothing is read past what is there: each field comes
// through the bounded reader.

#include "udp.h"

#include "wire.h"

#include <string.h>

#define IP4_VERSION_IHL 0x45u
#define IP4_DONT        0x4000u // don't fragment
#define IP4_FRAGMENT    0x3fffu // more fragments, or an offset
#define IP_ECT          2u      // this transport reads the network's marks
#define IP_CE           3u
#define IP_HOPS         64u

static void put_be16(struct wire_writer *w, uint16_t v)
{
	wire_put_u16(w, udp_be16(v));
}

static uint16_t get_be16(struct wire_reader *r)
{
	return udp_be16(wire_u16(r));
}

// Words are summed as they stand in memory: the sum of swapped words is the swapped sum, and all
// that is done with it is to store it again.
uint32_t udp_sum(uint32_t sum, const uint8_t *buf, size_t len)
{
	uint64_t wide = sum;
	size_t i = 0;

	for (; i + 4 <= len; i += 4) {
		uint32_t v;

		memcpy(&v, buf + i, sizeof(v));
		wide += v;
	}
	for (; i < len; i += 2) {
		uint16_t v = 0;

		memcpy(&v, buf + i, len - i == 1 ? 1 : 2);
		wide += v;
	}
	while (wide >> 32 != 0)
		wide = (wide & UINT32_MAX) + (wide >> 32);
	return (uint32_t)wide;
}

uint16_t udp_fold(uint32_t sum)
{
	while (sum >> 16 != 0)
		sum = (sum & UINT16_MAX) + (sum >> 16);
	return (uint16_t)sum;
}

bool udp_addr_equal(const struct udp_addr *a, const struct udp_addr *b)
{
	return a->v6 == b->v6 && memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

static void put_ether(struct wire_writer *w, const struct udp_own *own, bool v6)
{
	static const uint8_t none[UDP_MAC_BYTES];

	wire_put_bytes(w, none, sizeof(none));
	wire_put_bytes(w, own->mac, sizeof(own->mac));
	if (own->vlan != 0) {
		put_be16(w, UDP_TYPE_VLAN);
		put_be16(w, own->vlan);
	}
	put_be16(w, v6 ? UDP_TYPE_IP6 : UDP_TYPE_IP4);
}

static void put_ip4(struct wire_writer *w, const struct udp_addr *own, const struct udp_addr *peer)
{
	wire_put_u8(w, IP4_VERSION_IHL);
	wire_put_u8(w, IP_ECT);
	put_be16(w, 0); // length
	put_be16(w, 0); // no id: never fragmented (RFC 6864)
	put_be16(w, IP4_DONT);
	wire_put_u8(w, IP_HOPS);
	wire_put_u8(w, UDP_PROTO);
	put_be16(w, 0); // sum
	wire_put_bytes(w, own->ip, 4);
	wire_put_bytes(w, peer->ip, 4);
}

static void put_ip6(struct wire_writer *w, const struct udp_addr *own, const struct udp_addr *peer)
{
	wire_put_u8(w, 0x60);
	wire_put_u8(w, IP_ECT << 4);
	put_be16(w, 0); // flow label
	put_be16(w, 0); // length
	wire_put_u8(w, UDP_PROTO);
	wire_put_u8(w, IP_HOPS);
	wire_put_bytes(w, own->ip, 16);
	wire_put_bytes(w, peer->ip, 16);
}

void udp_head_init(struct udp_head *h, const struct udp_own *own, uint16_t own_port,
	const struct udp_addr *peer, uint16_t peer_port)
{
	const struct udp_addr *from = peer->v6 ? &own->ip6 : &own->ip4;
	struct wire_writer w;
	size_t addr_bytes = peer->v6 ? 16 : 4;

	memset(h, 0, sizeof(*h));
	h->v6 = peer->v6;
	h->l2_bytes = UDP_ETHER_BYTES + (own->vlan != 0 ? UDP_VLAN_BYTES : 0);
	h->l3_bytes = peer->v6 ? UDP_IP6_BYTES : UDP_IP4_BYTES;
	h->bytes = h->l2_bytes + h->l3_bytes + UDP_BYTES;
	wire_write_init(&w, h->hdr, sizeof(h->hdr));
	put_ether(&w, own, peer->v6);
	if (peer->v6)
		put_ip6(&w, from, peer);
	else
		put_ip4(&w, from, peer);
	put_be16(&w, own_port);
	put_be16(&w, peer_port);
	if (!peer->v6)
		h->ip_sum = udp_fold(udp_sum(0, h->hdr + h->l2_bytes, UDP_IP4_BYTES));
	h->pseudo_sum = udp_sum(udp_be16(UDP_PROTO), from->ip, addr_bytes);
	h->pseudo_sum = udp_fold(udp_sum(h->pseudo_sum, peer->ip, addr_bytes));
}

void udp_head_mac(struct udp_head *h, const uint8_t mac[UDP_MAC_BYTES])
{
	memcpy(h->hdr, mac, UDP_MAC_BYTES);
}

static void store(uint8_t *at, uint16_t v)
{
	memcpy(at, &v, sizeof(v));
}

void udp_put(const struct udp_head *h, uint8_t *buf, uint32_t payload_bytes, bool device_ip_sum,
	enum udp_summing summing)
{
	uint8_t *ip = buf + h->l2_bytes, *udp = ip + h->l3_bytes;
	uint16_t len = udp_be16((uint16_t)(UDP_BYTES + payload_bytes));
	uint16_t total = udp_be16((uint16_t)(UDP_IP4_BYTES + UDP_BYTES + payload_bytes));

	memcpy(buf, h->hdr, h->bytes);
	store(udp + 4, len);
	store(udp + 6, summing == UDP_SUM_NONE ? 0 : udp_fold(h->pseudo_sum + len));
	if (h->v6) {
		store(ip + 4, len);
		return;
	}
	store(ip + 2, total);
	if (!device_ip_sum)
		store(ip + 10, (uint16_t)~udp_fold(h->ip_sum + total));
}

void udp_put_sum(const struct udp_head *h, uint8_t *buf, uint32_t payload_sum)
{
	uint8_t *udp = buf + h->l2_bytes + h->l3_bytes;
	uint16_t sum = (uint16_t)~udp_fold(udp_sum(payload_sum, udp, UDP_BYTES));

	store(udp + 6, sum == 0 ? UINT16_MAX : sum); // 0 would say that there is none
}

// To us, to all, or to a group.
static bool mac_is_ours(const struct udp_own *own, const uint8_t *mac)
{
	return memcmp(mac, own->mac, UDP_MAC_BYTES) == 0 || (mac[0] & 1) != 0;
}

// The type behind Ethernet's header and a VLAN tag that is ours; 0: none of that.
static uint16_t get_type(struct wire_reader *r, const struct udp_own *own)
{
	uint8_t mac[UDP_MAC_BYTES], from[UDP_MAC_BYTES];
	uint16_t type, vlan = 0;

	wire_bytes(r, mac, sizeof(mac));
	wire_bytes(r, from, sizeof(from));
	type = get_be16(r);
	if (type == UDP_TYPE_VLAN) {
		vlan = get_be16(r) & 0x0fff;
		type = get_be16(r);
	}
	return wire_ok(r) && vlan == own->vlan && mac_is_ours(own, mac) ? type : 0;
}

static enum udp_kind get_udp(struct wire_reader *r, size_t left, struct udp_seen *s)
{
	uint16_t bytes;

	s->from_port = get_be16(r);
	s->to_port = get_be16(r);
	bytes = get_be16(r);
	wire_u16(r);
	if (!wire_ok(r) || bytes < UDP_BYTES || bytes > left)
		return UDP_STRANGE;
	s->bytes = bytes - UDP_BYTES;
	return UDP_DATAGRAM;
}

static enum udp_kind get_ip4(struct wire_reader *r, const struct udp_own *own, size_t left,
	bool check_sum, struct udp_seen *s)
{
	const uint8_t *ip = r->at;
	uint8_t ihl = wire_u8(r), tos = wire_u8(r), proto, to[4];
	uint16_t bytes = get_be16(r), hdr = (ihl & 15) * 4, fragment;

	wire_u16(r);
	fragment = get_be16(r);
	wire_u8(r);
	proto = wire_u8(r);
	wire_u16(r);
	wire_bytes(r, s->from.ip, 4);
	wire_bytes(r, to, sizeof(to));
	if (!wire_ok(r) || ihl >> 4 != 4 || hdr < UDP_IP4_BYTES || bytes < hdr || bytes > left ||
		(fragment & IP4_FRAGMENT) != 0 || proto != UDP_PROTO || !own->has4 ||
		memcmp(to, own->ip4.ip, sizeof(to)) != 0)
		return UDP_STRANGE;
	for (unsigned i = UDP_IP4_BYTES; i < hdr; i += 4)
		wire_u32(r);
	if (!wire_ok(r) || (check_sum && udp_fold(udp_sum(0, ip, hdr)) != UINT16_MAX))
		return UDP_STRANGE;
	s->ce = (tos & 3) == IP_CE;
	return get_udp(r, bytes - hdr, s);
}

static enum udp_kind get_ip6(
	struct wire_reader *r, const struct udp_own *own, size_t left, struct udp_seen *s)
{
	uint8_t first = wire_u8(r), second = wire_u8(r), proto, to[16];
	uint16_t bytes;

	wire_u16(r);
	bytes = get_be16(r);
	proto = wire_u8(r);
	wire_u8(r);
	wire_bytes(r, s->from.ip, 16);
	wire_bytes(r, to, sizeof(to));
	if (!wire_ok(r) || first >> 4 != 6 || !own->has6 || UDP_IP6_BYTES + bytes > left)
		return UDP_STRANGE;
	s->from.v6 = true;
	s->ce = (second >> 4 & 3) == IP_CE;
	if (proto == UDP_PROTO_IC6)
		return to[0] == 0xff || memcmp(to, own->ip6.ip, sizeof(to)) == 0 ? UDP_ICMP6
										 : UDP_STRANGE;
	if (proto != UDP_PROTO || memcmp(to, own->ip6.ip, sizeof(to)) != 0)
		return UDP_STRANGE;
	return get_udp(r, bytes, s);
}

enum udp_kind udp_parse(const struct udp_own *own, const uint8_t *buf, size_t have, size_t len,
	bool check_ip_sum, struct udp_seen *s)
{
	enum udp_kind kind = UDP_STRANGE;
	struct wire_reader r;
	size_t left;
	uint16_t type;

	memset(s, 0, sizeof(*s));
	if (have > len)
		return UDP_STRANGE;
	wire_read_init(&r, buf, have);
	type = get_type(&r, own);
	s->at = (size_t)(r.at - buf);
	left = len - s->at;
	if (type == UDP_TYPE_ARP)
		return UDP_ARP;
	if (type == UDP_TYPE_IP4)
		kind = get_ip4(&r, own, left, check_ip_sum, s);
	else if (type == UDP_TYPE_IP6)
		kind = get_ip6(&r, own, left, s);
	if (kind == UDP_DATAGRAM)
		s->at = (size_t)(r.at - buf);
	return kind;
}
