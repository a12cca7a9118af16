// SPDX-License-Identifier: BSD-3-Clause
// UDP ports by the hash of a device: the examples that its authors publish come to the queues that
// they must, and a port that is taken for a queue is one whose datagrams come in there. The device
// is net_null, which tells its key and table as cards do. It delivers nothing: that a card hashes
// as it tells is seen on cards only.

#include <stdio.h>
#include <stdlib.h>
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
	copy.rss.entries = 256;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		struct sockaddr_storage from, to;
		struct udp_addr a, own;
		uint16_t port;
		unsigned got;

		port_address_parse(&from, known[i].from, known[i].from_port);
		port_address_parse(&to, known[i].to, known[i].to_port);
		port_addr_of(&a, &port, &from);
		port_addr_of(&own, &port, &to);
		for (unsigned k = 0; k < copy.rss.entries; k++)
			copy.rss.queue[k] = (uint8_t)k;
		got = port_rss_queue(&copy.rss, &a, known[i].from_port, &own, known[i].to_port);
		check(got == known[i].hash % 256, known[i].from, got, known[i].hash % 256);
	}
}

// Queues in turn, as cards have them from the start, or in steps.
static void spread(struct port *p, unsigned step)
{
	struct rte_eth_rss_reta_entry64 t[PORT_RETA / RTE_ETH_RETA_GROUP_SIZE] = {0};

	for (unsigned i = 0; i < p->rss.entries; i++) {
		t[i / RTE_ETH_RETA_GROUP_SIZE].mask = UINT64_MAX;
		t[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] =
			(uint16_t)(i / step % QUEUES);
	}
	check(rte_eth_dev_rss_reta_update(p->id, t, p->rss.entries) == 0, "a table", 1, 0);
	port_rss_probe(p);
}

static unsigned lands(struct port *p, const struct udp_addr *from, uint16_t from_port, uint16_t to)
{
	return port_rss_queue(&p->rss, from, from_port, from->v6 ? &p->own.ip6 : &p->own.ip4, to);
}

static void taken(struct port *p)
{
	for (unsigned i = 0; i < 64; i++) {
		struct port_peer peer = {.queue = 0};
		struct udp_addr from;
		uint16_t from_port, got;

		port_address_parse(
			&peer.address, i % 2 ? "2001:db8::2" : "192.0.2.2", (uint16_t)(50000 + i));
		port_addr_of(&from, &from_port, &peer.address);
		got = port_udp_take(p, i % QUEUES, &peer);
		check(got != 0 && lands(p, &from, from_port, got) == i % QUEUES,
			"the queue of a port that was taken", lands(p, &from, from_port, got),
			i % QUEUES);
		port_udp_give(p, got);
	}
	check(port_udp_take(p, QUEUES, NULL) == 0, "a queue that is not there", 1, 0);
}

// As two daemons do: the source takes a port before it knows the target's, the target one that
// suits both. Devices with other keys and tables; what each sends comes in where it is wanted.
static void both(struct port *source, struct port *target, bool v6)
{
	for (unsigned i = 0; i < QUEUES * QUEUES; i++) {
		struct port_peer there = {.queue = 0}, here = {.queue = i / QUEUES};
		const char *address[2] = {
			v6 ? "2001:db8::1" : "192.0.2.1", v6 ? "2001:db8::2" : "192.0.2.2"};
		struct udp_addr from[2];
		uint16_t none, udp[2];

		port_address_parse(&there.address, address[1], 0);
		udp[0] = port_udp_take(source, i / QUEUES, &there);
		port_address_parse(&here.address, address[0], udp[0]);
		here.rss = port_rss(source);
		udp[1] = port_udp_take(target, i % QUEUES, &here);
		port_addr_of(&from[0], &none, &here.address);
		port_addr_of(&from[1], &none, &there.address);
		check(lands(target, &from[0], udp[0], udp[1]) == i % QUEUES, "pages",
			lands(target, &from[0], udp[0], udp[1]), i % QUEUES);
		check(lands(source, &from[1], udp[1], udp[0]) == i / QUEUES, "answers",
			lands(source, &from[1], udp[1], udp[0]), i / QUEUES);
		port_udp_give(source, udp[0]);
		port_udp_give(target, udp[1]);
	}
}

// Queues of equal load are taken in turn, those near the memory first.
static void picked(struct port *p)
{
	uint16_t udp[QUEUES];

	for (unsigned i = 0; i < QUEUES; i++)
		p->queue[i]->poller.node = i % 2;
	for (unsigned i = 0; i < QUEUES; i++) {
		static const unsigned order[] = {1, 3, 0, 2};
		unsigned queue = port_pick_queue(p, 1);

		check(queue == order[i], "a queue near node 1", queue, order[i]);
		udp[i] = port_udp_take(p, queue, NULL);
	}
	check(port_pick_queue(p, -1) == 0, "of equal ones the first", port_pick_queue(p, -1), 0);
	for (unsigned i = 0; i < QUEUES; i++)
		port_udp_give(p, udp[i]);
}

static struct port *open_port(const char *device, const char *ipv4, const char *ipv6)
{
	struct port_config c = {
		.name = device, .device = device, .queues = QUEUES, .ipv4 = ipv4, .ipv6 = ipv6};
	struct port *p;
	struct err e;

	if (port_open(&p, &c, &e) == 0)
		return p;
	printf("%s\n", e.text);
	exit(1);
}

int main(void)
{
	struct eal_config c = {
		.cores = "0,0,0,0", .mem_mb = 192, .no_huge = true, .idle = LCORE_IDLE_YIELD};
	uint8_t key[PORT_RSS_LEAST];
	struct rte_eth_rss_conf conf = {.rss_key = key,
		.rss_key_len = sizeof(key),
		.rss_hf = RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_NONFRAG_IPV6_UDP};
	struct eal_info info;
	struct port *p, *other;
	struct err e;

	if (eal_start(&c, &info, &e) < 0) {
		printf("%s\n", e.text);
		return 1;
	}
	p = open_port("net_null0", "192.0.2.1/24", "2001:db8::1/64");
	other = open_port("net_null1", "192.0.2.2/24", "2001:db8::2/64");
	if (!p->rss.udp4 || !p->rss.udp6) {
		printf("SKIP: this DPDK's net_null tells no key\n");
		return 77;
	}
	published(p);
	spread(p, 1);
	taken(p);
	picked(p);
	for (unsigned i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)(i * i + 91);
	check(rte_eth_dev_rss_hash_update(other->id, &conf) == 0, "a key", 1, 0);
	spread(other, 3);
	both(p, other, false);
	both(p, other, true);
	port_close(p);
	port_close(other);
	eal_stop();
	printf("%u wrong\n", wrong);
	return wrong != 0;
}
