// SPDX-License-Identifier: BSD-3-Clause
// A port as control sees it: opened, held while sessions use it, asked, closed. Run by the control
// thread; its queues run on lcores (port_turn.c).
//
// Invariants: queues are polled only between hold and release, and after that until the device has
// given back what it holds of guest memory; a UDP port has one link; all memory is there before the
// first queue is polled.

#include "port.h"

#include "cpulist.h"
#include "lcore.h"
#include "mem.h"
#include "port_impl.h"

#include <errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DETACH_NS (5 * NS_PER_S)
#define NAP_NS    100000

static unsigned queues_of[CPULIST_MAX + 1]; // by lcore

// The worker with the fewest queues, of any port; those of the device's NUMA node first.
static unsigned pick_lcore(const struct port *p)
{
	unsigned best = 1, best_load = UINT32_MAX;

	for (unsigned i = 1; i <= lcore_count(); i++) {
		unsigned away = p->info.node >= 0 && lcore_node(i) != (unsigned)p->info.node;
		unsigned load = queues_of[i] + away * PORT_QUEUES;

		if (load < best_load) {
			best = i;
			best_load = load;
		}
	}
	return best;
}

int port_queue_new(struct port *p, unsigned n, struct err *e)
{
	unsigned lcore = pick_lcore(p);
	struct port_queue *q = mem_new(sizeof(*q), (int)rte_lcore_to_socket_id(lcore));

	if (q == NULL)
		return err_set(e, ENOMEM, "no memory for queue %u of port %s", n, p->info.name);
	p->queue[n] = q;
	q->port = p;
	q->index = (uint16_t)n;
	q->lcore = lcore;
	queues_of[lcore]++;
	q->poller.kind = FLOW_PORT;
	q->poller.lcore = lcore;
	q->poller.node = lcore_node(lcore);
	q->poller.priv = q;
	atomic_init(&q->poller.detached, true);
	return 0;
}

static void queue_free(struct port_queue *q)
{
	if (q == NULL)
		return;
	queues_of[q->lcore]--;
	rte_ring_free(q->forward);
	rte_mempool_free(q->rx_pool);
	rte_mempool_free(q->full_pool);
	rte_mempool_free(q->hdr_pool);
	rte_mempool_free(q->ext_pool);
	mem_free(q, sizeof(*q));
}

static void address_of(struct sockaddr_storage *s, const struct udp_addr *a)
{
	struct sockaddr_in *s4 = (void *)s;
	struct sockaddr_in6 *s6 = (void *)s;

	s->ss_family = a->v6 ? AF_INET6 : AF_INET;
	if (a->v6)
		memcpy(&s6->sin6_addr, a->ip, 16);
	else
		memcpy(&s4->sin_addr, a->ip, 4);
}

int port_open(struct port **out, const struct port_config *c, struct err *e)
{
	struct port *p;
	int rc = port_config_check(c, e);

	if (rc < 0)
		return rc;
	if (lcore_count() == 0)
		return err_set(e, EINVAL, "port %s: no lcore was started to poll it", c->name);
	p = mem_new(sizeof(*p), -1);
	if (p == NULL)
		return err_set(e, ENOMEM, "no memory for port %s", c->name);
	p->id = UINT16_MAX;
	p->ns_mult = (uint64_t)(((unsigned __int128)NS_PER_S << 32) / clock_cycles_hz());
	snprintf(p->info.name, sizeof(p->info.name), "%s", c->name);
	for (unsigned i = 0; i < PORT_LINKS; i++)
		atomic_init(&p->slot[i].queue, PORT_NOBODY);
	rc = port_addresses(p, c, e);
	if (rc == 0)
		rc = port_probe(p, c, e);
	if (rc < 0) {
		port_close(p);
		return rc;
	}
	p->info.vlan = c->vlan;
	if (p->own.has4)
		address_of(&p->info.ipv4, &p->own.ip4);
	if (p->own.has6)
		address_of(&p->info.ipv6, &p->own.ip6);
	port_steer_probe(p);
	port_rss_probe(p);
	*out = p;
	return 0;
}

static bool wait_detached(struct port_queue *q, uint64_t end_ns)
{
	static const struct timespec nap = {.tv_nsec = NAP_NS};

	// Acquire: the lcore's last turn is over.
	while (!atomic_load_explicit(&q->poller.detached, memory_order_acquire)) {
		if (clock_ns() > end_ns)
			return false;
		clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
	}
	return true;
}

static bool wait_all_detached(struct port *p)
{
	uint64_t end = clock_ns() + DETACH_NS;

	for (unsigned i = 0; i < p->nqueues; i++)
		if (p->queue[i] != NULL && !wait_detached(p->queue[i], end))
			return false;
	return true;
}

// Windows of guest memory are unmapped by threads of their own, which use the device.
static bool wait_unmapped(struct port *p)
{
	static const struct timespec nap = {.tv_nsec = NAP_NS};
	uint64_t end = clock_ns() + DETACH_NS;

	// Acquire: the thread is through.
	while (atomic_load_explicit(&p->windows, memory_order_acquire) > 0) {
		if (clock_ns() > end)
			return false;
		clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
	}
	return true;
}

void port_close(struct port *p)
{
	if (p == NULL)
		return;
	// Release: who sees it lets go, whatever the device holds.
	atomic_store_explicit(&p->closing, true, memory_order_release);
	for (unsigned i = 0; i < p->nqueues; i++)
		if (p->queue[i] != NULL)
			flow_detach(&p->queue[i]->poller);
	// Who does not let go would use what is freed: then it stays.
	if (!wait_all_detached(p))
		return;
	port_stop(p);
	if (!wait_unmapped(p))
		return;
	port_remove(p);
	for (unsigned i = 0; i < p->nqueues; i++)
		queue_free(p->queue[i]);
	mem_free(p, sizeof(*p));
}

static int queue_hold(struct port_queue *q)
{
	int polled = PORT_LEAVING, rc;

	// The lcore that waits for the device goes on; or it lets go, or has.
	if (atomic_compare_exchange_strong_explicit(
		    &q->polled, &polled, PORT_POLLED, memory_order_acq_rel, memory_order_acquire)) {
		atomic_store_explicit(&q->poller.stop, false, memory_order_release);
		return 0;
	}
	if (!wait_detached(q, clock_ns() + DETACH_NS))
		return -EBUSY;
	atomic_store_explicit(&q->poller.stop, false, memory_order_relaxed);
	atomic_store_explicit(&q->polled, PORT_POLLED, memory_order_relaxed);
	rc = flow_attach(&q->poller);
	if (rc < 0) {
		atomic_store_explicit(&q->polled, PORT_GONE, memory_order_relaxed);
		atomic_store_explicit(&q->poller.detached, true, memory_order_relaxed);
	}
	return rc;
}

int port_hold(struct port *p)
{
	int rc = 0;

	if (p->held++ > 0)
		return 0;
	for (unsigned i = 0; rc == 0 && i < p->nqueues; i++)
		rc = queue_hold(p->queue[i]);
	if (rc < 0)
		port_release(p);
	return rc;
}

void port_release(struct port *p)
{
	if (--p->held > 0)
		return;
	for (unsigned i = 0; i < p->nqueues; i++) {
		int polled = PORT_POLLED;

		if (atomic_compare_exchange_strong_explicit(&p->queue[i]->polled, &polled,
			    PORT_LEAVING, memory_order_acq_rel, memory_order_relaxed))
			flow_detach(&p->queue[i]->poller);
	}
}

void port_info(struct port *p, struct port_info *i)
{
	struct rte_eth_link l = {0};

	*i = p->info;
	if (rte_eth_link_get_nowait(p->id, &l) < 0)
		return;
	i->link_up = l.link_status == RTE_ETH_LINK_UP;
	i->speed_mbps = l.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : l.link_speed;
}

static uint64_t get(const _Atomic uint64_t *v)
{
	return atomic_load_explicit((_Atomic uint64_t *)v, memory_order_relaxed);
}

void port_counts(const struct port *p, struct port_counts *c)
{
	memset(c, 0, sizeof(*c));
	for (unsigned i = 0; i < p->nqueues; i++) {
		const struct port_queue *q = p->queue[i];

		c->rx_packets += get(&q->n.rx_packets);
		c->rx_bytes += get(&q->n.rx_bytes);
		c->tx_packets += get(&q->n.tx_packets);
		c->tx_bytes += get(&q->n.tx_bytes);
		c->rx_strange += get(&q->n.rx_strange);
		c->rx_nobody += get(&q->n.rx_nobody);
		c->rx_forwarded += get(&q->n.rx_forwarded);
		c->rx_dropped += get(&q->n.rx_dropped);
		c->tx_full += get(&q->n.tx_full);
		c->neighbours += get(&q->n.neighbours);
	}
}

unsigned port_pick_queue(const struct port *p, int node)
{
	unsigned links[PORT_QUEUES] = {0}, best = 0, best_load = UINT32_MAX;

	for (unsigned i = 0; i < PORT_LINKS; i++) {
		uint8_t q = atomic_load_explicit(
			(_Atomic uint8_t *)&p->slot[i].queue, memory_order_relaxed);

		if (q < PORT_QUEUES)
			links[q]++;
	}
	for (unsigned i = 0; i < p->nqueues; i++) {
		bool away = node >= 0 && p->queue[i]->poller.node != (unsigned)node;
		unsigned load = 2 * links[i] + away;

		if (load < best_load) {
			best = i;
			best_load = load;
		}
	}
	return best;
}

unsigned port_queue_lcore(const struct port *p, unsigned queue)
{
	return queue < p->nqueues ? p->queue[queue]->lcore : 0;
}

static bool slot_is_free(const struct port *p, unsigned n)
{
	return atomic_load_explicit((_Atomic uint8_t *)&p->slot[n].queue, memory_order_relaxed) ==
	       PORT_NOBODY;
}

// How well UDP port udp_port suits a link on this queue: 2 for what comes from the peer, 1 for what
// goes there. What is not known suits.
static unsigned suits(const struct port *p, uint16_t udp_port, unsigned queue,
	const struct port_peer *peer, const struct udp_addr *at, uint16_t at_port)
{
	const struct udp_addr *own = at->v6 ? &p->own.ip6 : &p->own.ip4;
	unsigned here = PORT_NOBODY, there = PORT_NOBODY;

	if (at_port != 0)
		here = port_rss_queue(&p->rss, at, at_port, own, udp_port);
	if (at_port != 0 && peer->rss != NULL)
		there = port_rss_queue(peer->rss, own, udp_port, at, at_port);
	return 2 * (here == queue || here == PORT_NOBODY) +
	       (there == peer->queue || there == PORT_NOBODY);
}

// Of the free slots from `first` on the one that suits best; PORT_LINKS: none is free.
static unsigned find_slot(const struct port *p, unsigned first, unsigned queue,
	const struct port_peer *peer, const struct udp_addr *at, uint16_t at_port)
{
	unsigned best = PORT_LINKS, best_suits = 0;

	for (unsigned i = 0; i < PORT_LINKS && best_suits < 3; i++) {
		unsigned n = (first + i) % PORT_LINKS, how = 3;

		if (!slot_is_free(p, n))
			continue;
		if (peer != NULL)
			how = suits(p, (uint16_t)(PORT_UDP_FIRST + n), queue, peer, at, at_port);
		if (best == PORT_LINKS || how > best_suits) {
			best = n;
			best_suits = how;
		}
	}
	return best;
}

// Not the one that was given back last, so that late packets for it meet nobody.
uint16_t port_udp_take(struct port *p, unsigned queue, const struct port_peer *peer)
{
	struct udp_addr at = {.v6 = !p->own.has4};
	uint16_t at_port = 0;
	unsigned n;

	if (queue >= p->nqueues)
		return 0;
	if (peer != NULL && port_addr_of(&at, &at_port, &peer->address) < 0) {
		peer = NULL;
		at.v6 = !p->own.has4;
	}
	n = find_slot(p, p->next_slot, queue, peer, &at, at_port);
	if (n == PORT_LINKS)
		return 0;
	p->next_slot = n + 1;
	atomic_store_explicit(&p->slot[n].queue, (uint8_t)queue, memory_order_relaxed);
	port_steer(p, &p->slot[n], (uint16_t)(PORT_UDP_FIRST + n), at.v6);
	return (uint16_t)(PORT_UDP_FIRST + n);
}

void port_udp_give(struct port *p, uint16_t udp_port)
{
	unsigned n = (unsigned)udp_port - PORT_UDP_FIRST;

	if (n >= PORT_LINKS)
		return;
	port_unsteer(p, &p->slot[n]);
	atomic_store_explicit(&p->slot[n].queue, PORT_NOBODY, memory_order_relaxed);
}
