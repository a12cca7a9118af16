// SPDX-License-Identifier: BSD-3-Clause
// Steering by RSS: a device that spreads packets by a hash whose key and table it tells brings
// those of a flow to the queue of its link, if the link's UDP port is chosen for that. Run by
// control threads.
//
// Invariant: what is said here is a hint. A packet that comes in on another queue all the same is
// handed over by port_turn.c.

#include "port_impl.h"

#include <rte_ethdev.h>
#include <rte_thash.h>
#include <string.h>

static bool get_key(struct port *p)
{
	struct rte_eth_rss_conf c = {.rss_key = p->rss.key};
	struct rte_eth_dev_info i;

	if (rte_eth_dev_info_get(p->id, &i) != 0 || i.reta_size == 0 || i.reta_size > PORT_RETA)
		return false;
	// Who does not say how long its key is has the usual one.
	c.rss_key_len = i.hash_key_size > 0 ? i.hash_key_size : PORT_RSS_LEAST;
	if (c.rss_key_len < PORT_RSS_LEAST || c.rss_key_len > sizeof(p->rss.key) ||
		rte_eth_dev_rss_hash_conf_get(p->id, &c) != 0)
		return false;
	p->rss.key_bytes = c.rss_key_len;
	p->rss.entries = i.reta_size;
	p->rss.udp4 = (c.rss_hf & RTE_ETH_RSS_NONFRAG_IPV4_UDP) != 0;
	p->rss.udp6 = (c.rss_hf & RTE_ETH_RSS_NONFRAG_IPV6_UDP) != 0;
	return true;
}

static bool get_table(struct port *p)
{
	struct rte_eth_rss_reta_entry64 t[PORT_RETA / RTE_ETH_RETA_GROUP_SIZE];

	memset(t, 0, sizeof(t));
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		t[i].mask = UINT64_MAX;
	if (rte_eth_dev_rss_reta_query(p->id, t, p->rss.entries) != 0)
		return false;
	for (unsigned i = 0; i < p->rss.entries; i++) {
		uint16_t queue = t[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE];

		if (queue >= p->nqueues)
			return false;
		p->rss.queue[i] = (uint8_t)queue;
	}
	return true;
}

void port_rss_probe(struct port *p)
{
	bool known = p->spreads && get_key(p) && get_table(p);

	if (!known)
		p->rss.udp4 = p->rss.udp6 = false;
	if (p->spreads && !known && !p->has_flow)
		port_note(p,
			"the device tells no key and table of at most %u entries by which it "
			"spreads: packets are handed over between cores",
			PORT_RETA);
}

const struct port_rss *port_rss(const struct port *p)
{
	return p->rss.udp4 || p->rss.udp6 ? &p->rss : NULL;
}

// A word of an address, in the order of the host.
static uint32_t word(const uint8_t *ip)
{
	return (uint32_t)ip[0] << 24 | (uint32_t)ip[1] << 16 | (uint32_t)ip[2] << 8 | ip[3];
}

unsigned port_rss_queue(const struct port_rss *r, const struct udp_addr *from, uint16_t from_port,
	const struct udp_addr *to, uint16_t to_port)
{
	unsigned words = from->v6 ? 4 : 1;
	uint32_t tuple[9], hash;

	if (from->v6 ? !r->udp6 : !r->udp4)
		return PORT_NOBODY;
	for (unsigned i = 0; i < words; i++) {
		tuple[i] = word(from->ip + 4 * i);
		tuple[words + i] = word(to->ip + 4 * i);
	}
	tuple[2 * words] = (uint32_t)from_port << 16 | to_port;
	hash = rte_softrss(tuple, 2 * words + 1, r->key);
	return r->queue[hash % r->entries];
}
