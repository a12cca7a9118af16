// SPDX-License-Identifier: BSD-3-Clause
// Headers around datagrams: what is written is read again, sums are right, and what is not whole or
// not for us is strange. ARP and neighbour discovery between two that ask each other.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "neighbour.h"

#define PAYLOAD 100u

static const struct udp_own a = {
	.mac = {2, 0, 0, 0, 0, 0xa},
	.has4 = true,
	.has6 = true,
	.ip4 = {.ip = {192, 0, 2, 1}},
	.ip6 = {.ip = {0xfd, [15] = 1}, .v6 = true},
};
static const struct udp_own b = {
	.mac = {2, 0, 0, 0, 0, 0xb},
	.has4 = true,
	.has6 = true,
	.ip4 = {.ip = {192, 0, 2, 2}},
	.ip6 = {.ip = {0xfd, [15] = 2}, .v6 = true},
};

// A datagram from a to b.
static size_t make(uint8_t *buf, struct udp_own *from, bool v6, uint16_t vlan)
{
	struct udp_head h;

	*from = a;
	from->vlan = vlan;
	udp_head_init(&h, from, 50000, v6 ? &b.ip6 : &b.ip4, 50001);
	udp_head_mac(&h, b.mac);
	memset(buf + h.bytes, 0x5a, PAYLOAD);
	udp_put(&h, buf, PAYLOAD, false, v6 ? UDP_SUM_SOFT : UDP_SUM_NONE);
	if (v6)
		udp_put_sum(&h, buf, udp_sum(0, buf + h.bytes, PAYLOAD));
	return h.bytes + PAYLOAD;
}

static void reads_what_it_writes(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		bool v6 = i & 1;
		uint16_t vlan = i & 2 ? 77 : 0;
		struct udp_own to = b, from;
		uint8_t buf[256];
		size_t len = make(buf, &from, v6, vlan);
		struct udp_seen s;

		to.vlan = vlan;
		assert_int_equal(udp_parse(&to, buf, len, len, true, &s), UDP_DATAGRAM);
		assert_int_equal(s.from_port, 50000);
		assert_int_equal(s.to_port, 50001);
		assert_int_equal(s.bytes, PAYLOAD);
		assert_int_equal(s.at, len - PAYLOAD);
		assert_true(udp_addr_equal(&s.from, v6 ? &a.ip6 : &a.ip4));
		assert_false(s.ce);
		// Ethernet pads short frames; the first piece need not hold all of it.
		assert_int_equal(udp_parse(&to, buf, s.at, len + 9, true, &s), UDP_DATAGRAM);
		assert_int_equal(s.bytes, PAYLOAD);
		// Of another VLAN.
		to.vlan ^= 1;
		assert_int_equal(udp_parse(&to, buf, len, len, true, &s), UDP_STRANGE);
	}
}

static void sums_as_the_rfcs_say(void **state)
{
	struct udp_own from;
	uint8_t buf[256];
	size_t len = make(buf, &from, false, 0);
	uint8_t *ip = buf + UDP_ETHER_BYTES;
	uint32_t sum;

	(void)state;
	(void)len;
	assert_int_equal(udp_fold(udp_sum(0, ip, UDP_IP4_BYTES)), UINT16_MAX);
	len = make(buf, &from, true, 0);
	// The pseudo header: addresses, length, protocol.
	sum = udp_sum(0, ip + 8, 32);
	sum = udp_sum(sum, ip + 4, 2);
	sum = udp_sum(sum, (const uint8_t[]){0, 17}, 2);
	sum = udp_sum(sum, ip + UDP_IP6_BYTES, UDP_BYTES + PAYLOAD);
	assert_int_equal(udp_fold(sum), UINT16_MAX);
	// RFC 1071, section 3.
	assert_int_equal(
		udp_fold(udp_sum(
			0, (const uint8_t[]){0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}, 8)),
		udp_be16(0xddf2));
}

static void calls_the_rest_strange(void **state)
{
	struct udp_own from;
	uint8_t buf[256];
	struct udp_seen s;

	(void)state;
	for (unsigned v6 = 0; v6 < 2; v6++) {
		size_t len = make(buf, &from, v6, 0);

		// Cut anywhere, with a buffer as short as that.
		for (size_t n = 0; n < len; n++)
			assert_int_equal(udp_parse(&b, buf, n, n, true, &s), UDP_STRANGE);
		for (size_t n = 0; n < len - PAYLOAD; n++)
			assert_int_equal(udp_parse(&b, buf, n, len, true, &s), UDP_STRANGE);
		assert_int_equal(udp_parse(&a, buf, len, len, true, &s), UDP_STRANGE);
	}
	make(buf, &from, false, 0);
	buf[UDP_ETHER_BYTES + 8] ^= 1; // hops: the sum is wrong now
	assert_int_equal(udp_parse(&b, buf, sizeof(buf), sizeof(buf), true, &s), UDP_STRANGE);
	assert_int_equal(udp_parse(&b, buf, sizeof(buf), sizeof(buf), false, &s), UDP_DATAGRAM);
	make(buf, &from, false, 0);
	buf[UDP_ETHER_BYTES + 6] |= 0x20; // more fragments
	assert_int_equal(udp_parse(&b, buf, sizeof(buf), sizeof(buf), false, &s), UDP_STRANGE);
	make(buf, &from, false, 0);
	buf[UDP_ETHER_BYTES + 1] |= 3;
	assert_int_equal(udp_parse(&b, buf, sizeof(buf), sizeof(buf), false, &s), UDP_DATAGRAM);
	assert_true(s.ce);
}

// a asks for b, b answers and learns, a hears.
static void finds_neighbours(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		bool v6 = i & 1;
		struct udp_own x = a, y = b;
		struct neighbour_table tx = {0}, ty = {0};
		struct neighbour *nb = neighbour_take(&tx, v6 ? &b.ip6 : &b.ip4);
		struct neighbour *na = neighbour_take(&ty, v6 ? &a.ip6 : &a.ip4);
		uint8_t buf[NEIGHBOUR_BYTES], out[NEIGHBOUR_BYTES], mac[UDP_MAC_BYTES];
		struct udp_seen s;
		enum udp_kind kind;
		size_t len;

		x.vlan = y.vlan = i & 2 ? 12 : 0;
		assert_false(neighbour_mac(nb, mac));
		len = neighbour_ask(&x, v6 ? &b.ip6 : &b.ip4, buf);
		assert_in_range(len, NEIGHBOUR_LEAST, sizeof(buf));
		kind = udp_parse(&y, buf, len, len, true, &s);
		assert_int_equal(kind, v6 ? UDP_ICMP6 : UDP_ARP);
		for (size_t n = s.at; n + 18 < len && !v6; n++) // padding may go
			(void)neighbour_hear(&ty, &y, kind, buf, n, &s, out);
		len = neighbour_hear(&ty, &y, kind, buf, len, &s, out);
		assert_in_range(len, NEIGHBOUR_LEAST, sizeof(out));
		assert_true(neighbour_mac(na, mac));
		assert_memory_equal(mac, a.mac, sizeof(mac));
		kind = udp_parse(&x, out, len, len, true, &s);
		assert_int_equal(kind, v6 ? UDP_ICMP6 : UDP_ARP);
		assert_int_equal(neighbour_hear(&tx, &x, kind, out, len, &s, buf), 0);
		assert_true(neighbour_mac(nb, mac));
		assert_memory_equal(mac, b.mac, sizeof(mac));
	}
}

static void learns_only_what_was_asked(void **state)
{
	struct neighbour_table t = {0};
	struct neighbour *n;
	uint8_t buf[NEIGHBOUR_BYTES], out[NEIGHBOUR_BYTES], mac[UDP_MAC_BYTES];
	struct udp_addr addr = b.ip4;
	struct udp_seen s;
	size_t len = neighbour_ask(&a, &b.ip4, buf);

	(void)state;
	// b is asked by a stranger: it answers, and keeps nothing.
	assert_int_equal(udp_parse(&b, buf, len, len, true, &s), UDP_ARP);
	assert_true(neighbour_hear(&t, &b, UDP_ARP, buf, len, &s, out) > 0);
	assert_int_equal(atomic_load(&t.n), 0);
	// A wrong sum, a hop limit that shows it came from elsewhere.
	n = neighbour_take(&t, &a.ip6);
	len = neighbour_ask(&a, &b.ip6, buf);
	assert_int_equal(udp_parse(&b, buf, len, len, true, &s), UDP_ICMP6);
	buf[UDP_ETHER_BYTES + 7]--;
	assert_int_equal(neighbour_hear(&t, &b, UDP_ICMP6, buf, len, &s, out), 0);
	buf[UDP_ETHER_BYTES + 7]++;
	buf[len - 1] ^= 1;
	assert_int_equal(neighbour_hear(&t, &b, UDP_ICMP6, buf, len, &s, out), 0);
	assert_false(neighbour_mac(n, mac));
	// The table has an end, and what was given back is used again.
	for (unsigned i = 1; i < NEIGHBOUR_MOST; i++) {
		addr.ip[3] = (uint8_t)i;
		assert_non_null(neighbour_take(&t, &addr));
	}
	addr.ip[3] = 200;
	assert_null(neighbour_take(&t, &addr));
	neighbour_give(n);
	assert_ptr_equal(neighbour_take(&t, &addr), n);
	assert_ptr_equal(neighbour_take(&t, &addr), n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_it_writes),
		cmocka_unit_test(sums_as_the_rfcs_say),
		cmocka_unit_test(calls_the_rest_strange),
		cmocka_unit_test(finds_neighbours),
		cmocka_unit_test(learns_only_what_was_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
