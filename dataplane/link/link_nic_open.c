// SPDX-License-Identifier: BSD-3-Clause
// Makes and ends the nic link. Run by control threads.

#include "link_nic_impl.h"

#include "lcore.h"
#include "mem.h"

#include <errno.h>
#include <rte_ethdev.h>
#include <stdlib.h>
#include <string.h>

#define RESOLVE_NS   (5 * NS_PER_S)
#define NIC_SLOTS    32u // encoded frames in flight: 4 MiB at a ratio of 2
#define IP4_OVERHEAD (UDP_IP4_BYTES + UDP_BYTES)
#define IP6_OVERHEAD (UDP_IP6_BYTES + UDP_BYTES)

// A core that others share looks only now and then: what it sees late is no queue, and no loss.
#define SHARED_TARGET_NS (10 * NS_PER_MS)
#define SHARED_PTO_NS    (20 * NS_PER_MS)

static size_t ring_bytes(const struct link_nic *n)
{
	return n->rel->cfg.ring_bytes + FRAME_PAYLOAD_BYTES;
}

static size_t payload_bytes(const struct link_nic *n)
{
	return n->rel->cfg.frames * sizeof(struct nic_payload);
}

static size_t place_bytes(const struct link_nic *n)
{
	return n->rel->cfg.frames * sizeof(struct nic_place);
}

static void rel_config_of(const struct link_nic_config *c, bool v6, struct rel_config *g)
{
	rel_config_init(g);
	g->token_out = c->token_out;
	g->token_in = c->token_in;
	g->frames = c->frames > 0 ? c->frames : LINK_NIC_FRAMES;
	g->ring_bytes = c->ring_bytes > 0 ? c->ring_bytes : LINK_NIC_RING_BYTES;
	g->mtu_most = c->mtu_most;
	g->overhead_bytes = v6 ? IP6_OVERHEAD : IP4_OVERHEAD;
	g->first_number = 1;
	if (c->dead_ns > 0)
		g->dead_ns = c->dead_ns;
	g->barrier_ns = c->barrier_ns;
	if (lcore_is_shared()) {
		g->target_ns = SHARED_TARGET_NS;
		g->least_pto_ns = SHARED_PTO_NS;
		g->first_rtt_ns = SHARED_TARGET_NS;
	}
}

static int check(const struct link_nic_config *c, struct link_nic *n, struct err *e)
{
	struct port *p = c->port;
	int rc = port_addr_of(&n->peer, &n->peer_port, &c->peer);

	if (rc < 0 || n->peer_port == 0 || c->queue >= p->nqueues || c->udp_port < PORT_UDP_FIRST ||
		c->udp_port >= PORT_UDP_FIRST + PORT_LINKS)
		return err_set(
			e, EINVAL, "nic: no such peer, queue or UDP port on port %s", p->info.name);
	port_address_text(&c->peer, n->peer_text);
	if (c->mtu_most < PORT_MTU_LEAST || c->mtu_most > p->info.mtu)
		return err_set(e, EINVAL, "nic: an MTU of %u was agreed on, port %s has %u to %u",
			c->mtu_most, p->info.name, PORT_MTU_LEAST, p->info.mtu);
	if (c->frames != 0 &&
		(c->frames < 64 || c->frames > PACKET_FRAMES || (c->frames & (c->frames - 1)) != 0))
		return err_set(e, EINVAL,
			"nic: a window of %u frames was agreed on, but it has to "
			"be a power of two from 64 to %u",
			c->frames, PACKET_FRAMES);
	if (c->ring_bytes != 0 &&
		(c->ring_bytes < FRAME_PAYLOAD_BYTES || c->ring_bytes % PACKET_LINE_BYTES != 0 ||
			c->ring_bytes > UINT32_MAX))
		return err_set(e, EINVAL, "nic: a ring of %llu bytes was agreed on, which can't be",
			(unsigned long long)c->ring_bytes);
	rc = port_next_hop(p, &n->peer, &n->hop_addr);
	if (rc == -EAFNOSUPPORT)
		return err_set(e, EINVAL,
			"nic: port %s has no address of the kind of %s: give it "
			"one, or the peer one of its kind",
			p->info.name, n->peer_text);
	if (rc < 0)
		return err_set(e, ENETUNREACH,
			"nic: %s is outside of the prefix of port %s, which has no gateway: give "
			"it one, or both ports addresses of one prefix",
			n->peer_text, p->info.name);
	return 0;
}

static void sums(struct link_nic *n)
{
	const struct port_info *i = &n->port->info;

	n->device_ip_sum = i->ip_checksum && !n->peer.v6;
	n->summing = UDP_SUM_NONE;
	if (i->udp_checksum)
		n->summing = UDP_SUM_DEVICE;
	else if (n->peer.v6)
		n->summing = UDP_SUM_SOFT; // RFC 8200, 8.1: IPv6 does not do without
}

// Is never called: the link itself holds one reference more.
static void pages_free(void *addr, void *arg)
{
	(void)addr;
	(void)arg;
}

static int memory_new(struct link_nic *n, int node, struct err *e)
{
	const struct rel_config *g = &n->rel->cfg;

	n->rel_bytes = n->source ? rel_send_bytes(g) : rel_recv_bytes(g);
	n->rel_mem = mem_new(n->rel_bytes, node);
	n->bounce = mem_new(NIC_BOUNCE_BYTES, node);
	if (n->source)
		n->payload = mem_new(payload_bytes(n), node);
	if (!n->source) {
		n->ring = mem_new(ring_bytes(n), node);
		n->place = mem_new(place_bytes(n), node);
	}
	if (n->rel_mem == NULL || n->bounce == NULL ||
		(n->source ? !n->payload : !n->ring || !n->place))
		return err_set(e, ENOMEM, "nic: no memory for the buffers of a flow");
	return 0;
}

int link_nic_open(struct link **l, const struct link_nic_config *c, struct err *e)
{
	int node = (int)lcore_node(port_queue_lcore(c->port, c->queue));
	struct link_nic *n = mem_new(sizeof(*n), node);
	struct rel_config cfg;
	int rc;

	if (n == NULL)
		return err_set(e, ENOMEM, "nic: no memory for a flow");
	n->link.ops = &link_nic;
	n->link.sums_parts = true;
	n->link.slots = NIC_SLOTS;
	n->port = c->port;
	n->source = c->source;
	n->rel = c->source ? &n->send.c : &n->recv.c;
	rc = check(c, n, e);
	if (rc < 0) {
		link_nic_close(&n->link);
		return rc;
	}
	n->q = c->port->queue[c->queue];
	rel_config_of(c, n->peer.v6, &cfg);
	n->rel->cfg = cfg;
	rc = memory_new(n, node, e);
	if (rc == 0) {
		n->hop = neighbour_take(&n->port->neighbours, &n->hop_addr);
		if (n->hop == NULL)
			rc = err_set(e, ENOSPC, "nic: port %s has links to %u next hops, no more",
				n->port->info.name, NEIGHBOUR_MOST);
	}
	if (rc < 0) {
		link_nic_close(&n->link);
		return rc;
	}
	if (n->source)
		rel_send_init(&n->send, &cfg, n->rel_mem, 0);
	else
		rel_recv_init(&n->recv, &cfg, n->rel_mem, 0);
	udp_head_init(&n->head, &n->port->own, c->udp_port, &n->peer, n->peer_port);
	n->udp_port = c->udp_port;
	n->resolve_ns = c->resolve_ns > 0 ? c->resolve_ns : RESOLVE_NS;
	n->zero_copy =
		c->source && n->port->info.zero_copy && (n->port->copies || c->windows != NULL);
	n->windows = n->zero_copy && !n->port->copies ? c->windows : NULL;
	n->lane = c->lane;
	n->pages.free_cb = pages_free;
	rte_mbuf_ext_refcnt_set(&n->pages, 1);
	n->faults = c->faults;
	sums(n);
	*l = &n->link;
	return 0;
}

int link_nic_seal(struct link *l, const struct seal_ops *ops, const struct seal_secret *out,
	const struct seal_secret *in, int node, struct err *e)
{
	struct link_nic *n = (struct link_nic *)l;
	int rc;

	if (n->source && n->port->info.must_zero_copy)
		return err_set(e, ENOTSUP,
			"port %s is to send pages without a copy, and sealed ones can't be: set "
			"its "
			"zero-copy to auto, or give --seal none on both hosts",
			n->port->info.name);
	rc = seal_new(&n->seal_out, ops, out, node, e);
	if (rc == 0)
		rc = seal_new(&n->seal_in, ops, in, node, e);
	if (rc < 0)
		return rc;
	n->opened = mem_new(NIC_BOUNCE_BYTES, node);
	if (n->opened == NULL)
		return err_set(e, ENOMEM, "nic: no memory for the seal of a flow");
	n->zero_copy = false;
	n->windows = NULL;
	n->rel->cfg.sealed = true;
	l->sealed = true;
	return 0;
}

void link_nic_close(struct link *l)
{
	struct link_nic *n = (struct link_nic *)l;

	if (n == NULL)
		return;
	// Where no lcore ran it (tests), nobody has taken it from the port.
	if (n->bound)
		port_bind(n->q, n->udp_port, NULL);
	rte_pktmbuf_free(n->making);
	for (; n->in_head != n->in_tail; n->in_head++)
		rte_pktmbuf_free(n->in[n->in_head % NIC_INBOX].m);
	for (; n->out_head < n->out_n && !n->bursting; n->out_head++)
		rte_pktmbuf_free(n->out[n->out_head]);
	neighbour_give(n->hop);
	if (n->udp_port != 0)
		port_udp_give(n->port, n->udp_port);
	mem_free(n->rel_mem, n->rel_bytes);
	mem_free(n->bounce, NIC_BOUNCE_BYTES);
	mem_free(n->opened, NIC_BOUNCE_BYTES);
	seal_free(n->seal_out);
	seal_free(n->seal_in);
	if (n->payload != NULL)
		mem_free(n->payload, payload_bytes(n));
	if (n->place != NULL)
		mem_free(n->place, place_bytes(n));
	if (n->ring != NULL)
		mem_free(n->ring, ring_bytes(n));
	mem_free(n, sizeof(*n));
}

void link_nic_info(const struct link *l, struct link_nic_info *i)
{
	const struct link_nic *n = (const struct link_nic *)l;
	const struct rel *r = n->rel;

	*i = (struct link_nic_info){
		.packets_out = r->stats.packets_out,
		.packets_in = r->stats.packets_in,
		.lost = r->stats.lost,
		.spurious = r->stats.spurious,
		.timeouts = r->stats.timeouts,
		.bad = r->stats.bad,
		.zero_copy = n->zero_copy,
	};
	if (!n->source)
		return;
	i->mtu = n->send.path.mtu;
	i->rtt_ns = n->send.cc.srtt_ns;
	i->window_bytes = congestion_window(&n->send.cc);
	i->rate_bytes_per_s = congestion_rate(&n->send.cc);
}
