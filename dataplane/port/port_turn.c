// SPDX-License-Identifier: BSD-3-Clause
// A turn of a port's queue: packets from the device, each to the link that it is for. Run by the
// queue's polling core.
//
// Steering: what comes in on the queue of another lcore than its link's is handed over by a ring,
// so a link is touched by its own lcore only. Where the device steers, that does not happen.
// Invariant: a packet has one owner: the device, this turn, a ring, or a link.

#include "port_impl.h"

#include <errno.h>
#include <rte_ethdev.h>
#include <string.h>

#define NUDGE_BYTES 60u // the least that Ethernet has, without its sum

static void drop(struct rte_mbuf *m, _Atomic uint64_t *why)
{
	port_count(why, 1);
	rte_pktmbuf_free(m);
}

// The device has looked at sums and found them wrong.
static bool is_spoilt(const struct rte_mbuf *m)
{
	uint64_t ip = m->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
	uint64_t udp = m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;

	return ip == RTE_MBUF_F_RX_IP_CKSUM_BAD || udp == RTE_MBUF_F_RX_L4_CKSUM_BAD;
}

static void hear(
	struct port_queue *q, enum udp_kind kind, struct rte_mbuf *m, const struct udp_seen *s)
{
	uint8_t out[NEIGHBOUR_BYTES];
	size_t len = neighbour_hear(&q->port->neighbours, &q->port->own, kind,
		rte_pktmbuf_mtod(m, const uint8_t *), m->data_len, s, out);

	if (len > 0) {
		port_say(q, out, len);
		port_count(&q->n.neighbours, 1);
	}
	rte_pktmbuf_free(m);
}

static void forward(struct port_queue *q, unsigned to, struct rte_mbuf *m)
{
	if (rte_ring_mp_enqueue(q->port->queue[to]->forward, m) != 0)
		drop(m, &q->n.rx_dropped);
	else
		port_count(&q->n.rx_forwarded, 1);
}

// Gives a packet to whom it is for.
static void sort(struct port_queue *q, struct rte_mbuf *m)
{
	struct port *p = q->port;
	struct udp_seen s;
	enum udp_kind kind;
	struct port_slot *slot;
	uint8_t to;

	kind = udp_parse(&p->own, rte_pktmbuf_mtod(m, const uint8_t *), m->data_len, m->pkt_len,
		p->check_ip_sum, &s);
	if (kind == UDP_STRANGE || is_spoilt(m)) {
		drop(m, &q->n.rx_strange);
		return;
	}
	if (kind != UDP_DATAGRAM) {
		hear(q, kind, m, &s);
		return;
	}
	if (s.to_port < PORT_UDP_FIRST || s.to_port >= PORT_UDP_FIRST + PORT_LINKS) {
		drop(m, &q->n.rx_nobody);
		return;
	}
	slot = &p->slot[s.to_port - PORT_UDP_FIRST];
	to = atomic_load_explicit(&slot->queue, memory_order_relaxed);
	if (to < p->nqueues && to != q->index)
		forward(q, to, m);
	else if (to >= p->nqueues || slot->link == NULL)
		drop(m, &q->n.rx_nobody);
	else if (!link_nic_take(slot->link, m, &s))
		drop(m, &q->n.rx_dropped);
}

// Links are gone that would have the device look at what it has sent; some devices can't be asked,
// and look when there is more to send.
static void reclaim(struct port_queue *q)
{
	uint64_t now = port_now_ns(q->port);

	if (now < q->reclaim_at_ns)
		return;
	q->reclaim_at_ns = now + PORT_RECLAIM_NS;
	if (rte_eth_tx_done_cleanup(q->id, q->index, 0) == -ENOTSUP)
		port_nudge(q);
}

bool port_turn(struct port_queue *q)
{
	struct rte_mbuf *m[PORT_BURST];
	unsigned n = rte_eth_rx_burst(q->id, q->index, m, PORT_BURST), handed = 0;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++) {
		bytes += m[i]->pkt_len;
		sort(q, m[i]);
	}
	if (n > 0) {
		port_count(&q->n.rx_packets, n);
		port_count(&q->n.rx_bytes, bytes);
	}
	if (!rte_ring_empty(q->forward)) {
		handed = rte_ring_sc_dequeue_burst(q->forward, (void **)m, PORT_BURST, NULL);
		for (unsigned i = 0; i < handed; i++)
			sort(q, m[i]);
	}
	if (atomic_load_explicit(&q->port->ending, memory_order_relaxed) > 0)
		reclaim(q);
	return n + handed > 0;
}

bool port_leave(struct port_queue *q)
{
	int leaving = PORT_LEAVING;

	// Acquire pairs with port_close(), which stops the device then.
	if (atomic_load_explicit(&q->port->closing, memory_order_acquire))
		return true;
	if (atomic_load_explicit(&q->port->windows, memory_order_relaxed) > 0) {
		port_turn(q);
		return false;
	}
	// Fails if control held the port again: then it is polled on.
	return atomic_compare_exchange_strong_explicit(
		&q->polled, &leaving, PORT_GONE, memory_order_acq_rel, memory_order_relaxed);
}

unsigned port_send(struct port_queue *q, struct rte_mbuf **m, unsigned n)
{
	uint64_t bytes = 0;
	uint32_t len[PORT_BURST];
	unsigned sent;

	for (unsigned i = 0; i < n; i++)
		len[i] = m[i]->pkt_len;
	sent = rte_eth_tx_burst(q->id, q->index, m, (uint16_t)n);
	for (unsigned i = 0; i < sent; i++)
		bytes += len[i];
	port_count(&q->n.tx_packets, sent);
	port_count(&q->n.tx_bytes, bytes);
	if (sent < n)
		port_count(&q->n.tx_full, 1);
	return sent;
}

// Of an experimental type (IEEE 802, local experimental EtherType 1), to ourselves: no switch hands
// it on, as it came from where it is to go.
void port_nudge(struct port_queue *q)
{
	uint8_t buf[NUDGE_BYTES] = {0};

	memcpy(buf, q->port->own.mac, UDP_MAC_BYTES);
	memcpy(buf + UDP_MAC_BYTES, q->port->own.mac, UDP_MAC_BYTES);
	buf[2 * UDP_MAC_BYTES] = 0x88;
	buf[2 * UDP_MAC_BYTES + 1] = 0xb5;
	port_say(q, buf, sizeof(buf));
}

void port_say(struct port_queue *q, const uint8_t *buf, size_t len)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(q->full_pool);

	if (m == NULL)
		return;
	memcpy(rte_pktmbuf_append(m, (uint16_t)len), buf, len);
	if (port_send(q, &m, 1) == 0)
		rte_pktmbuf_free(m);
}

void port_bind(struct port_queue *q, uint16_t udp_port, struct link_nic *link)
{
	q->port->slot[udp_port - PORT_UDP_FIRST].link = link;
}
