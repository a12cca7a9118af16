// SPDX-License-Identifier: BSD-3-Clause
// UDP ports by the hash of a device: the examples that its authors publish come to the queues that
// they must, and a port that is taken for a queue is one whose datagrams come in there. The device
// is net_null, which tells its key and table as cards do. It delivers nothing: that a card hashes
// as it tells is seen on cards only.

#include <stdio.h>
#include <string.h>

#include "lcore.h"
#include "port_impl.h"

#include <rte_ethdev.h>

#define QUEUES 4u

static unsigned wrong;

static void check(bool ok, const char *what, unsigned is, unsigned need)
{
	if (!ok)
		printf("WRONG: %s: %u, not %u\n", what, is, need);
	wrong += !ok;
}

// From "Verifying the RSS hash calculation", Windows driver documentation: with its key.
static void published(struct port *p)
{
	static const struct {
		const char *from, *to;
		uint16_t from_port, to_port;
		uint32_t hash;
	} known[] = {
		{"66.9.149.187", "161.142.100.80", 2794, 1766, 0x51ccc178},
		{"199.92.111.2", "65.69.140.83", 14230, 4739, 0xc626b0ea},
		{"3ffe:2501:200:1fff::7", "3ffe:2501:200:3::1", 2794, 1766, 0x40207d3d},
		{"3ffe:501:8::260:97ff:fe40:efab", "ff02::1", 14230, 4739, 0xdde51bbf},
	};
	static const uint8_t key[] = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
		0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4,
		0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac,
		0x01, 0xfa};
	struct port copy = *p;

	memcpy(copy.rss.key, key, sizeof(key));
	copy.rss.udp4 = copy.rss.udp6 = true;
	copy.rss.entries = PORT_RETA;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		struct sockaddr_storage from, to;
		struct udp_addr a, own;
		uint16_t port;

		port_address_parse(&from, known[i].from, known[i].from_port);
		port_address_parse(&to, known[i].to, known[i].to_port);
		port_addr_of(&a, &port, &from);
		port_addr_of(&own, &port, &to);
		*(own.v6 ? &copy.own.ip6 : &copy.own.ip4) = own;
		for (unsigned k = 0; k < PORT_RETA; k++)
			copy.rss.queue[k] = (uint16_t)k;
		check(port_rss_queue(&copy, &a, known[i].from_port, known[i].to_port) ==
				known[i].hash % PORT_RETA,
			known[i].from,
			port_rss_queue(&copy, &a, known[i].from_port, known[i].to_port),
			known[i].hash % PORT_RETA);
	}
}

// Queues in turn, as cards have them from the start.
static void spread(struct port *p)
{
	struct rte_eth_rss_reta_entry64 t[PORT_RETA / RTE_ETH_RETA_GROUP_SIZE] = {0};

	for (unsigned i = 0; i < p->rss.entries; i++) {
		t[i / RTE_ETH_RETA_GROUP_SIZE].mask = UINT64_MAX;
		t[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] =
			(uint16_t)(i % QUEUES);
	}
	check(rte_eth_dev_rss_reta_update(p->id, t, p->rss.entries) == 0, "a table", 1, 0);
	port_rss_probe(p);
}

static void taken(struct port *p)
{
	for (unsigned i = 0; i < 64; i++) {
		struct sockaddr_storage peer;
		struct udp_addr from;
		uint16_t from_port, got;

		port_address_parse(
			&peer, i % 2 ? "2001:db8::2" : "192.0.2.2", (uint16_t)(50000 + i));
		port_addr_of(&from, &from_port, &peer);
		got = port_udp_take(p, i % QUEUES, &peer);
		check(got != 0 && port_rss_queue(p, &from, from_port, got) == i % QUEUES,
			"the queue of a port that was taken",
			port_rss_queue(p, &from, from_port, got), i % QUEUES);
		if (i % 3 == 0)
			port_udp_give(p, got);
	}
	check(port_udp_take(p, 0, NULL) != 0, "a port for nobody known yet", 0, 1);
	check(port_udp_take(p, QUEUES, NULL) == 0, "a queue that is not there", 1, 0);
}

int main(void)
{
	struct eal_config c = {
		.cores = "0,0,0,0", .mem_mb = 128, .no_huge = true, .idle = LCORE_IDLE_YIELD};
	struct port_config pc = {.name = "test",
		.device = "net_null0",
		.queues = QUEUES,
		.ipv4 = "192.0.2.1/24",
		.ipv6 = "2001:db8::1/64"};
	struct eal_info info;
	struct port *p;
	struct err e;

	if (eal_start(&c, &info, &e) < 0 || port_open(&p, &pc, &e) < 0) {
		printf("%s\n", e.text);
		return 1;
	}
	if (!p->rss.udp4 || !p->rss.udp6) {
		printf("SKIP: this DPDK's net_null tells no key\n");
		return 77;
	}
	published(p);
	spread(p);
	taken(p);
	port_close(p);
	eal_stop();
	printf("%u wrong\n", wrong);
	return wrong != 0;
}
