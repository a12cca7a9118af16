// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: frames from a network, as a port reads them: Ethernet, VLAN, IPv4, IPv6, UDP, ARP,
// neighbour discovery. Whatever comes, what is called a datagram lies within the frame, and answers
// fit. One bit of the first byte says whether sums are put right, so that the fuzzer gets past
// them.

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "neighbour.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct udp_own own = {
	.mac = {2, 0, 0, 0, 0, 1},
	.has4 = true,
	.has6 = true,
	.ip4 = {.ip = {192, 0, 2, 1}},
	.ip6 = {.ip = {0xfd, [15] = 1}, .v6 = true},
};

// The sum of an ICMPv6 message, as its reader wants it.
static void mend(uint8_t *p, size_t len)
{
	uint8_t *ip = p + UDP_ETHER_BYTES;
	size_t bytes;
	uint32_t sum;
	uint16_t v;

	if (len < UDP_ETHER_BYTES + UDP_IP6_BYTES + 8 || p[12] != 0x86 || p[13] != 0xdd)
		return;
	bytes = (size_t)ip[4] << 8 | ip[5];
	if (bytes < 8 || bytes > len - UDP_ETHER_BYTES - UDP_IP6_BYTES)
		return;
	ip[6] = UDP_PROTO_IC6;
	ip[7] = 255;
	ip[UDP_IP6_BYTES + 2] = ip[UDP_IP6_BYTES + 3] = 0;
	sum = udp_sum(0, ip + 8, 32 + bytes);
	sum = udp_sum(sum, ip + 4, 2);
	sum = udp_sum(sum, (const uint8_t[]){0, UDP_PROTO_IC6}, 2);
	v = (uint16_t)~udp_fold(sum);
	memcpy(ip + UDP_IP6_BYTES + 2, &v, sizeof(v));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct neighbour_table table;
	uint8_t out[NEIGHBOUR_BYTES], mac[UDP_MAC_BYTES];
	struct udp_seen s;
	enum udp_kind kind;
	size_t len, more;
	uint8_t *p;

	if (size < 2)
		return 0;
	if (table.n == 0) {
		neighbour_take(&table, &(struct udp_addr){.ip = {192, 0, 2, 2}});
		neighbour_take(&table, &(struct udp_addr){.ip = {0xfd, [15] = 2}, .v6 = true});
	}
	own.vlan = data[0] & 2 ? 5 : 0;
	len = size - 2;
	more = data[1]; // the frame is longer than its first piece
	p = malloc(len + 1);
	if (p == NULL)
		abort();
	memcpy(p, data + 2, len);
	if (data[0] & 4 && len >= UDP_MAC_BYTES)
		memcpy(p, own.mac, UDP_MAC_BYTES);
	if (data[0] & 1)
		mend(p, len);
	kind = udp_parse(&own, p, len, len + more, data[0] & 8, &s);
	if (kind == UDP_DATAGRAM && (s.at > len || s.at + s.bytes > len + more))
		abort();
	if ((kind == UDP_ARP || kind == UDP_ICMP6) &&
		neighbour_hear(&table, &own, kind, p, len, &s, out) > sizeof(out))
		abort();
	for (unsigned i = 0; i < 2; i++)
		if (neighbour_mac(&table.slot[i], mac) && (mac[0] & 1) != 0)
			abort();
	free(p);
	return 0;
}
