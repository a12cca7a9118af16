// SPDX-License-Identifier: BSD-3-Clause
// ARP and neighbour discovery. Run by polling cores; the table's slots are taken and given by
// control.
//
// Invariants: an entry is made for an address that a link asked for only, so that strangers can't
// fill the table. A message is believed only where its lengths, sum and hop limit are as the
// specifications demand.

#include "neighbour.h"

#include "wire.h"

#include <string.h>

#define MAC_KNOWN (UINT64_C(1) << 63)

#define ARP_ETHER   1u
#define ARP_REQUEST 1u
#define ARP_REPLY   2u
#define ARP_BYTES   28u

#define ND_SOLICIT   135u
#define ND_ADVERTISE 136u
#define ND_BYTES     24u // without options
#define ND_SOURCE    1u  // options: link-layer addresses
#define ND_TARGET    2u
#define ND_OPT_BYTES 8u
#define ND_SOLICITED 0x40u
#define ND_OVERRIDE  0x20u
#define ND_HOPS      255u

static const uint8_t all[UDP_MAC_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

// The table.

struct neighbour *neighbour_take(struct neighbour_table *t, const struct udp_addr *a)
{
	unsigned n = atomic_load_explicit(&t->n, memory_order_relaxed);
	struct neighbour *empty = NULL;

	for (unsigned i = 0; i < n; i++) {
		struct neighbour *s = &t->slot[i];

		if (s->refs > 0 && udp_addr_equal(&s->addr, a)) {
			s->refs++;
			return s;
		}
	}
	// An lcore that is just noting the old address may put its MAC here: the link that hears
	// nothing then asks again.
	for (unsigned i = 0; i < n && empty == NULL; i++)
		if (t->slot[i].refs == 0)
			empty = &t->slot[i];
	if (empty == NULL && n < NEIGHBOUR_MOST)
		empty = &t->slot[n];
	if (empty == NULL)
		return NULL;
	empty->addr = *a;
	empty->refs = 1;
	atomic_store_explicit(&empty->mac, 0, memory_order_relaxed);
	// Release: lcores that see the slot see its address.
	if (n < NEIGHBOUR_MOST && empty == &t->slot[n])
		atomic_store_explicit(&t->n, n + 1, memory_order_release);
	return empty;
}

void neighbour_give(struct neighbour *n)
{
	if (n != NULL)
		n->refs--;
}

bool neighbour_mac(const struct neighbour *n, uint8_t mac[UDP_MAC_BYTES])
{
	uint64_t v = atomic_load_explicit(&n->mac, memory_order_relaxed);

	for (unsigned i = 0; i < UDP_MAC_BYTES; i++)
		mac[i] = (uint8_t)(v >> 8 * i);
	return v != 0;
}

static void note(struct neighbour_table *t, const struct udp_addr *a, const uint8_t *mac)
{
	// Acquire pairs with neighbour_take().
	unsigned n = atomic_load_explicit(&t->n, memory_order_acquire);
	uint64_t v = MAC_KNOWN;

	for (unsigned i = 0; i < UDP_MAC_BYTES; i++)
		v |= (uint64_t)mac[i] << 8 * i;
	if (mac[0] & 1) // a group is no neighbour
		return;
	for (unsigned i = 0; i < n; i++)
		if (udp_addr_equal(&t->slot[i].addr, a))
			atomic_store_explicit(&t->slot[i].mac, v, memory_order_relaxed);
}

// Messages.

static void put_be16(struct wire_writer *w, uint16_t v)
{
	wire_put_u16(w, udp_be16(v));
}

static uint16_t get_be16(struct wire_reader *r)
{
	return udp_be16(wire_u16(r));
}

static void put_ether(
	struct wire_writer *w, const struct udp_own *own, const uint8_t *to, uint16_t type)
{
	wire_put_bytes(w, to, UDP_MAC_BYTES);
	wire_put_bytes(w, own->mac, UDP_MAC_BYTES);
	if (own->vlan != 0) {
		put_be16(w, UDP_TYPE_VLAN);
		put_be16(w, own->vlan);
	}
	put_be16(w, type);
}

static size_t padded(uint8_t *buf, size_t len)
{
	if (len >= NEIGHBOUR_LEAST)
		return len;
	memset(buf + len, 0, NEIGHBOUR_LEAST - len);
	return NEIGHBOUR_LEAST;
}

static size_t put_arp(
	const struct udp_own *own, uint16_t op, const uint8_t *mac, const uint8_t *ip, uint8_t *buf)
{
	static const uint8_t none[UDP_MAC_BYTES];
	struct wire_writer w;

	wire_write_init(&w, buf, NEIGHBOUR_BYTES);
	put_ether(&w, own, mac, UDP_TYPE_ARP);
	put_be16(&w, ARP_ETHER);
	put_be16(&w, UDP_TYPE_IP4);
	wire_put_u8(&w, UDP_MAC_BYTES);
	wire_put_u8(&w, 4);
	put_be16(&w, op);
	wire_put_bytes(&w, own->mac, UDP_MAC_BYTES);
	wire_put_bytes(&w, own->ip4.ip, 4);
	wire_put_bytes(&w, op == ARP_REQUEST ? none : mac, UDP_MAC_BYTES);
	wire_put_bytes(&w, ip, 4);
	return padded(buf, wire_len(&w, buf));
}

static size_t hear_arp(struct neighbour_table *t, const struct udp_own *own, const uint8_t *buf,
	size_t len, uint8_t *out)
{
	uint8_t mac[UDP_MAC_BYTES], to_mac[UDP_MAC_BYTES], to[4];
	struct udp_addr from = {0};
	uint16_t hw, proto, op;
	uint8_t mac_bytes, ip_bytes;
	struct wire_reader r;

	wire_read_init(&r, buf, len);
	hw = get_be16(&r);
	proto = get_be16(&r);
	mac_bytes = wire_u8(&r);
	ip_bytes = wire_u8(&r);
	op = get_be16(&r);
	wire_bytes(&r, mac, sizeof(mac));
	wire_bytes(&r, from.ip, 4);
	wire_bytes(&r, to_mac, sizeof(to_mac));
	wire_bytes(&r, to, sizeof(to));
	if (!wire_ok(&r) || hw != ARP_ETHER || proto != UDP_TYPE_IP4 ||
		mac_bytes != UDP_MAC_BYTES || ip_bytes != 4)
		return 0;
	note(t, &from, mac);
	if (op != ARP_REQUEST || !own->has4 || memcmp(to, own->ip4.ip, sizeof(to)) != 0)
		return 0;
	return put_arp(own, ARP_REPLY, mac, from.ip, out);
}

// The sum over the pseudo header and the ICMPv6 message; 0xffff, folded, where the message holds
// the right one.
static uint16_t icmp_sum(const uint8_t *from, const uint8_t *to, const uint8_t *icmp, size_t len)
{
	uint32_t sum = udp_sum(udp_be16(UDP_PROTO_IC6), from, 16);

	sum = udp_sum(udp_sum(sum, to, 16), icmp, len);
	return udp_fold(udp_sum(sum, (uint8_t[]){(uint8_t)(len >> 8), (uint8_t)len}, 2));
}

// A solicitation of or an advertisement for target.
static size_t put_nd(const struct udp_own *own, uint8_t type, const uint8_t *mac, const uint8_t *to,
	const uint8_t *target, uint8_t flags, uint8_t *buf)
{
	struct wire_writer w;
	uint8_t *icmp;
	uint16_t sum;

	wire_write_init(&w, buf, NEIGHBOUR_BYTES);
	put_ether(&w, own, mac, UDP_TYPE_IP6);
	wire_put_u32(&w, 0x60); // version 6, first byte
	put_be16(&w, ND_BYTES + ND_OPT_BYTES);
	wire_put_u8(&w, UDP_PROTO_IC6);
	wire_put_u8(&w, ND_HOPS);
	wire_put_bytes(&w, own->ip6.ip, 16);
	wire_put_bytes(&w, to, 16);
	icmp = w.at;
	wire_put_u8(&w, type);
	wire_put_u8(&w, 0);
	wire_put_u16(&w, 0);
	wire_put_u32(&w, flags);
	wire_put_bytes(&w, target, 16);
	wire_put_u8(&w, type == ND_SOLICIT ? ND_SOURCE : ND_TARGET);
	wire_put_u8(&w, 1); // of 8 bytes
	wire_put_bytes(&w, own->mac, UDP_MAC_BYTES);
	sum = (uint16_t)~icmp_sum(own->ip6.ip, to, icmp, ND_BYTES + ND_OPT_BYTES);
	memcpy(icmp + 2, &sum, sizeof(sum));
	return padded(buf, wire_len(&w, buf));
}

// The link-layer address among the options, or NULL.
static const uint8_t *nd_option(const uint8_t *at, const uint8_t *end, uint8_t kind)
{
	struct wire_reader r;

	wire_read_init(&r, at, (size_t)(end - at));
	while (wire_left(&r) >= ND_OPT_BYTES) {
		const uint8_t *option = r.at;
		uint8_t type = wire_u8(&r), units = wire_u8(&r);

		if (units == 0 || wire_left(&r) + 2 < units * (size_t)ND_OPT_BYTES)
			return NULL;
		if (type == kind && units == 1)
			return option + 2;
		r.at = option + units * (size_t)ND_OPT_BYTES;
	}
	return NULL;
}

static size_t hear_nd(struct neighbour_table *t, const struct udp_own *own, const uint8_t *buf,
	size_t len, uint8_t *out)
{
	const uint8_t *icmp = buf + UDP_IP6_BYTES, *mac;
	struct udp_addr from = {.v6 = true}, target = {.v6 = true};
	static const uint8_t nobody[16];
	uint8_t to[16], hops, type;
	struct wire_reader r;
	uint16_t bytes;

	wire_read_init(&r, buf, len);
	wire_u32(&r);
	bytes = get_be16(&r);
	wire_u8(&r);
	hops = wire_u8(&r);
	wire_bytes(&r, from.ip, 16);
	wire_bytes(&r, to, sizeof(to));
	if (!wire_ok(&r) || hops != ND_HOPS || bytes < ND_BYTES || bytes > wire_left(&r) ||
		icmp_sum(from.ip, to, icmp, bytes) != UINT16_MAX)
		return 0;
	type = wire_u8(&r);
	if (wire_u8(&r) != 0)
		return 0;
	wire_u16(&r);
	wire_u32(&r);
	wire_bytes(&r, target.ip, 16);
	if (type == ND_ADVERTISE) {
		mac = nd_option(r.at, icmp + bytes, ND_TARGET);
		if (mac != NULL)
			note(t, &target, mac);
		return 0;
	}
	if (type != ND_SOLICIT)
		return 0;
	mac = nd_option(r.at, icmp + bytes, ND_SOURCE);
	if (memcmp(from.ip, nobody, sizeof(nobody)) == 0) // asks whether its address is taken
		return 0;
	if (mac == NULL)
		return 0;
	note(t, &from, mac);
	if (!own->has6 || memcmp(target.ip, own->ip6.ip, sizeof(target.ip)) != 0)
		return 0;
	return put_nd(own, ND_ADVERTISE, mac, from.ip, target.ip, ND_SOLICITED | ND_OVERRIDE, out);
}

size_t neighbour_ask(
	const struct udp_own *own, const struct udp_addr *addr, uint8_t buf[NEIGHBOUR_BYTES])
{
	// RFC 4291, 2.7.1: the solicited-node address ends in the last three bytes; RFC 2464, 7.
	uint8_t to[16] = {0xff, 2, [11] = 1, 0xff};
	uint8_t mac[UDP_MAC_BYTES] = {0x33, 0x33};

	if (!addr->v6)
		return put_arp(own, ARP_REQUEST, all, addr->ip, buf);
	memcpy(to + 13, addr->ip + 13, 3);
	memcpy(mac + 2, to + 12, 4);
	return put_nd(own, ND_SOLICIT, mac, to, addr->ip, 0, buf);
}

size_t neighbour_hear(struct neighbour_table *t, const struct udp_own *own, enum udp_kind kind,
	const uint8_t *buf, size_t len, const struct udp_seen *s, uint8_t out[NEIGHBOUR_BYTES])
{
	if (s->at > len)
		return 0;
	if (kind == UDP_ARP)
		return hear_arp(t, own, buf + s->at, len - s->at, out);
	return hear_nd(t, own, buf + s->at, len - s->at, out);
}
