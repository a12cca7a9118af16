// SPDX-License-Identifier: BSD-3-Clause
// The nic link's way out: datagrams of the protocol become packets of the device. Run by the flow's
// polling core.
//
// Three ways: a packet with a copy of the part, or sealed (link_nic_seal.c), or, with zero copy,
// one of headers with the pages attached as they lie in guest memory. What is sent again is copied
// in both cases, so that a guest that keeps writing can't spoil its tag twice.
//
// Invariants: the protocol is asked for a datagram only when there is a place for it in `out`,
// because what it says counts as sent. A page that is attached is counted, in pages or in its
// window, until the device has let go of it. A packet that is not yet whole is `making`, as SIGBUS
// may end the turn meanwhile.

#include "link_nic_impl.h"

#include <rte_ethdev.h>
#include <string.h>

// splitmix64
static bool loses(struct link_nic *n)
{
	uint64_t x;

	if (n->faults.lose == 0)
		return false;
	x = n->faults.seed += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return ((x ^ (x >> 31)) & 0xffff) < n->faults.lose;
}

// From here on guest memory is read into it, or for its sum.
static void making(struct link_nic *n, struct rte_mbuf *m)
{
	n->making = m;
	atomic_signal_fence(memory_order_seq_cst); // SIGBUS finds it there
}

// The segments of a part, at most `most`; 0: more than that.
static unsigned part_segments(
	struct nic_payload *p, uint32_t offset, uint32_t bytes, struct iovec *seg, unsigned most)
{
	unsigned n = 0, i;
	uint32_t from;

	if (offset < p->at_bytes)
		p->at = p->at_bytes = 0;
	while (p->at + 1 < p->nseg && offset >= p->at_bytes + p->seg[p->at].iov_len)
		p->at_bytes += (uint32_t)p->seg[p->at++].iov_len;
	from = offset - p->at_bytes;
	for (i = p->at; bytes > 0 && i < p->nseg; i++) {
		uint32_t len = (uint32_t)p->seg[i].iov_len - from;

		if (n == most)
			return 0;
		len = len < bytes ? len : bytes;
		seg[n++] = (struct iovec){(uint8_t *)p->seg[i].iov_base + from, len};
		bytes -= len;
		from = 0;
	}
	return n;
}

static void seal_headers(struct link_nic *n, struct rte_mbuf *m, uint32_t bytes)
{
	uint8_t *hdr = rte_pktmbuf_mtod(m, uint8_t *);

	udp_put(&n->head, hdr, bytes, n->device_ip_sum, n->summing);
	m->l2_len = n->head.l2_bytes;
	m->l3_len = n->head.l3_bytes;
	m->l4_len = UDP_BYTES;
	if (n->device_ip_sum || n->summing == UDP_SUM_DEVICE)
		m->ol_flags |= n->head.v6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4;
	if (n->device_ip_sum && !n->head.v6)
		m->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
	if (n->summing == UDP_SUM_DEVICE)
		m->ol_flags |= RTE_MBUF_F_TX_UDP_CKSUM;
}

static void sum_softly(struct link_nic *n, struct rte_mbuf *m)
{
	uint8_t *hdr = rte_pktmbuf_mtod(m, uint8_t *);
	uint32_t sum = udp_sum(0, hdr + n->head.bytes, m->data_len - n->head.bytes);

	for (const struct rte_mbuf *s = m->next; s != NULL; s = s->next)
		sum = udp_sum(sum, rte_pktmbuf_mtod(s, const uint8_t *), s->data_len);
	udp_put_sum(&n->head, hdr, sum);
}

// The part is copied first and summed then.
static void copy_and_sum(struct rel_out *o, const struct iovec *seg, unsigned nseg, uint8_t *buf)
{
	struct iovec part = {buf + o->hdr_bytes, o->bytes};
	uint8_t *at = part.iov_base;

	for (unsigned i = 0; i < nseg; i++) {
		memcpy(at, seg[i].iov_base, seg[i].iov_len);
		at += seg[i].iov_len;
	}
	packet_seal(o->hdr, o->hdr_bytes, &part, o->bytes > 0);
	memcpy(buf, o->hdr, o->hdr_bytes);
}

// All of it in one buffer.
static struct rte_mbuf *plain(struct link_nic *n, struct rel_out *o)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(n->q->full_pool);
	struct iovec seg[LINK_SEGS];
	unsigned nseg = 0;
	uint8_t *buf;

	if (m == NULL)
		return NULL;
	making(n, m);
	buf = rte_pktmbuf_mtod_offset(m, uint8_t *, n->head.bytes);
	if (o->bytes > 0)
		nseg = part_segments(&n->payload[o->seq & (n->rel->cfg.frames - 1)], o->offset,
			o->bytes, seg, LINK_SEGS);
	if (!n->link.sealed) {
		copy_and_sum(o, seg, nseg, buf);
	} else if (!link_nic_seal_out(n, o, seg, nseg, buf)) {
		n->making = NULL;
		rte_pktmbuf_free(m);
		return NULL;
	}
	memset(buf + o->hdr_bytes + o->bytes, 0, o->pad_bytes);
	m->data_len = (uint16_t)(n->head.bytes + o->hdr_bytes + o->bytes + o->pad_bytes);
	m->pkt_len = m->data_len;
	return m;
}

// Counts the pieces as the device's, and tells where it finds them. False: not all are mapped for
// it.
static bool lend(struct link_nic *n, const struct iovec *seg, unsigned nseg, struct extmem_piece *p)
{
	if (n->windows != NULL)
		return extmem_window_take(n->windows, n->lane, seg, nseg, p);
	for (unsigned i = 0; i < nseg; i++)
		p[i] = (struct extmem_piece){seg[i].iov_base, &n->pages};
	rte_mbuf_ext_refcnt_update(&n->pages, (int16_t)nseg);
	return true;
}

static void attach(struct rte_mbuf *m, const struct extmem_piece *p, size_t bytes)
{
	rte_pktmbuf_attach_extbuf(
		m, p->at, (rte_iova_t)(uintptr_t)p->at, (uint16_t)bytes, p->count);
	m->data_len = (uint16_t)bytes;
	m->pkt_len = m->data_len;
}

// Headers, and the pages of the part behind them. NULL: it has too many pieces, or they are not
// mapped for the device, or it holds all buffers for them.
static struct rte_mbuf *attached(struct link_nic *n, struct rel_out *o)
{
	struct rte_mbuf *m, *ext[PORT_SEGS], **link;
	struct extmem_piece piece[PORT_SEGS];
	struct iovec seg[PORT_SEGS];
	unsigned nseg = part_segments(&n->payload[o->seq & (n->rel->cfg.frames - 1)], o->offset,
		o->bytes, seg, n->port->segs_most);

	if (nseg == 0 || rte_pktmbuf_alloc_bulk(n->q->ext_pool, ext, nseg) != 0)
		return NULL;
	m = rte_pktmbuf_alloc(n->q->hdr_pool);
	if (m == NULL || !lend(n, seg, nseg, piece)) {
		rte_pktmbuf_free(m);
		rte_pktmbuf_free_bulk(ext, nseg);
		return NULL;
	}
	m->data_len = (uint16_t)(n->head.bytes + o->hdr_bytes);
	m->pkt_len = m->data_len + o->bytes;
	m->nb_segs = (uint16_t)(1 + nseg);
	link = &m->next;
	for (unsigned i = 0; i < nseg; i++) {
		attach(ext[i], &piece[i], seg[i].iov_len);
		*link = ext[i];
		link = &ext[i]->next;
	}
	*link = NULL;
	making(n, m);
	packet_seal(o->hdr, o->hdr_bytes, seg, nseg);
	memcpy(rte_pktmbuf_mtod_offset(m, uint8_t *, n->head.bytes), o->hdr, o->hdr_bytes);
	return m;
}

static void put(struct link_nic *n, struct rel_out *o)
{
	uint32_t bytes = (uint32_t)o->hdr_bytes + o->bytes + o->pad_bytes;
	struct rte_mbuf *m = NULL;

	if (n->zero_copy && o->bytes > 0 && !o->copy)
		m = attached(n, o);
	if (m == NULL)
		m = plain(n, o);
	// Without a buffer it is as good as lost, and will be sent again.
	if (m == NULL)
		return;
	seal_headers(n, m, bytes);
	if (n->summing == UDP_SUM_SOFT)
		sum_softly(n, m);
	n->link.tx_bytes += bytes + n->head.bytes;
	n->making = NULL;
	if (loses(n))
		rte_pktmbuf_free(m);
	else
		n->out[n->out_n++] = m;
}

bool link_nic_flush(struct link_nic *n)
{
	if (n->out_head < n->out_n) {
		n->bursting = true;
		n->out_head += port_send(n->q, n->out + n->out_head, n->out_n - n->out_head);
		n->bursting = false;
	}
	if (n->out_head < n->out_n)
		return false;
	n->out_head = n->out_n = 0;
	return true;
}

static bool next_packet(struct link_nic *n, uint64_t now_ns, struct rel_out *o)
{
	return n->source ? rel_send_next_packet(&n->send, now_ns, o)
			 : rel_recv_next_packet(&n->recv, now_ns, o);
}

// The clock is read for each burst: a core that others share may have been away since the last one.
unsigned link_nic_say(struct link_nic *n)
{
	struct rel_out o;
	unsigned said = 0;

	while (link_nic_flush(n)) {
		uint64_t now_ns = port_now_ns(n->port);

		while (n->out_n < NIC_OUTBOX && next_packet(n, now_ns, &o)) {
			put(n, &o);
			said++;
		}
		if (n->out_n < NIC_OUTBOX) {
			link_nic_flush(n);
			break;
		}
	}
	return said;
}
