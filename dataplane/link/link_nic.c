// SPDX-License-Identifier: BSD-3-Clause
// The nic link while it runs: frames and answers to and from the page protocol, datagrams to and
// from the port's queue. Run by the flow's polling core, which is the queue's too.
//
// Invariants: nothing is said before the next hop is known. A frame that was handed out is answered
// before the next one is, as dropped where nothing was said of it; a barrier may wait. What came
// from the wire is in the inbox or was let go; after leave() the port brings nothing more.

#include "link_nic_impl.h"

#include "codec.h"
#include "copy.h"

#include <errno.h>
#include <rte_ethdev.h>
#include <string.h>

#define ASK_EVERY_NS   (200 * NS_PER_MS)
#define NUDGE_EVERY_NS (20 * NS_PER_US)
#define ASK_AGAIN_NS   NS_PER_S // of silence from a peer that was heard before

static int64_t broken(struct link_nic *n, int errnum)
{
	n->link.error = errnum;
	return -errnum;
}

// What comes from the port.

bool link_nic_take(struct link_nic *n, struct rte_mbuf *m, const struct udp_seen *s)
{
	if (n->in_tail - n->in_head == NIC_INBOX || s->from_port != n->peer_port ||
		!udp_addr_equal(&s->from, &n->peer))
		return false;
	// What stands around the datagram goes: the parts that hold headers are in the first piece.
	rte_pktmbuf_adj(m, (uint16_t)s->at);
	if (m->pkt_len > s->bytes)
		rte_pktmbuf_trim(m, (uint16_t)(m->pkt_len - s->bytes));
	n->in[n->in_tail++ % NIC_INBOX] = (struct nic_in){m, s->ce};
	return true;
}

static void begin(struct link_nic *n, struct nic_place *t, const struct frame *f)
{
	const struct link_sink *s = n->link.sink;
	unsigned k = 0;

	t->seq = f->seq + 1;
	t->base = s != NULL ? s->begin(s->arg, f) : NULL;
	if (t->base == NULL)
		return;
	for (uint64_t rest = f->data; rest != 0; rest &= rest - 1)
		t->page[k++] = (uint8_t)__builtin_ctzll(rest);
	t->run = t->page[k - 1] - t->page[0] == (int)k - 1;
}

// Parts of raw frames begin and end at lines of 64 bytes, as copy_out() wants them.
static void place_pages(const struct nic_place *t, const struct rel_part *p)
{
	uint32_t offset = p->offset, left = p->bytes;
	const uint8_t *from = p->data;

	if (t->run) {
		copy_out(t->base + t->page[0] * PAGE_BYTES + offset, from, left);
		return;
	}
	while (left > 0) {
		uint32_t in = offset % PAGE_BYTES, len = (uint32_t)PAGE_BYTES - in;

		len = len < left ? len : left;
		copy_out(t->base + t->page[offset / PAGE_BYTES] * PAGE_BYTES + in, from, len);
		offset += len;
		from += len;
		left -= len;
	}
}

static void place_part(struct link_nic *n, const struct rel_part *p)
{
	struct nic_place *t = &n->place[p->hdr->seq & (n->rel->cfg.frames - 1)];

	if (t->seq != p->hdr->seq + 1)
		begin(n, t, p->hdr);
	if (t->base != NULL)
		place_pages(t, p);
	else if (p->bytes > 0)
		memcpy(n->ring + p->pos % n->rel->cfg.ring_bytes + p->offset, p->data, p->bytes);
}

static void read_one(struct link_nic *n, const struct nic_in *in, uint64_t now_ns)
{
	const uint8_t *buf = rte_pktmbuf_read(in->m, 0, in->m->pkt_len, n->bounce);
	size_t len = in->m->pkt_len;
	struct rel_part part;

	if (buf == NULL)
		return;
	n->link.rx_bytes += len + n->head.bytes;
	if (n->link.sealed) {
		if (!link_nic_unseal(n, buf, len))
			return;
		buf = n->opened;
	}
	if (n->source)
		rel_send_packet_in(&n->send, now_ns, buf, len);
	else if (rel_recv_packet(&n->recv, now_ns, buf, len, in->ce, &part))
		place_part(n, &part);
}

static unsigned read_inbox(struct link_nic *n, uint64_t now_ns)
{
	unsigned count = 0;

	while (n->in_head != n->in_tail) {
		struct nic_in *in = &n->in[n->in_head % NIC_INBOX];

		read_one(n, in, now_ns);
		n->in_head++;
		rte_pktmbuf_free(in->m);
		count++;
	}
	return count;
}

// The next hop.

static void ask(struct link_nic *n, uint64_t now_ns, uint64_t again_ns)
{
	uint8_t buf[NEIGHBOUR_BYTES];

	if (now_ns < n->ask_at_ns)
		return;
	n->ask_at_ns = now_ns + again_ns;
	port_say(n->q, buf, neighbour_ask(&n->port->own, &n->hop_addr, buf));
}

static bool resolved(struct link_nic *n, uint64_t now_ns)
{
	uint64_t mac = atomic_load_explicit(&n->hop->mac, memory_order_relaxed);
	uint8_t bytes[UDP_MAC_BYTES];

	if (mac != n->hop_mac && neighbour_mac(n->hop, bytes)) {
		n->hop_mac = mac;
		udp_head_mac(&n->head, bytes);
	}
	if (n->hop_mac == 0)
		ask(n, now_ns, ASK_EVERY_NS);
	else if (now_ns - n->rel->heard_ns > ASK_AGAIN_NS)
		ask(n, now_ns, ASK_AGAIN_NS); // it may have moved
	return n->hop_mac != 0;
}

// How it ends.

static int64_t nobody_answers(struct link_nic *n)
{
	err_set(&n->link.why, EHOSTUNREACH,
		"nic: nobody on port %s answers to who has %s within %llu s: check the cable, the "
		"VLAN, the addresses of both ports, and that the peer's daemon runs",
		n->port->info.name, n->peer_text, (unsigned long long)(n->resolve_ns / NS_PER_S));
	return broken(n, EHOSTUNREACH);
}

static int64_t check_end(struct link_nic *n)
{
	const struct rel *r = n->rel;

	if (r->error == ETIMEDOUT) {
		err_set(&n->link.why, ETIMEDOUT,
			"nic: nothing was heard of %s on port %s for %llu s: check the network and "
			"the peer's log",
			n->peer_text, n->port->info.name,
			(unsigned long long)(r->cfg.dead_ns / NS_PER_S));
		return broken(n, ETIMEDOUT);
	}
	if (r->error != 0) {
		err_set(&n->link.why, r->error,
			"nic: %s breaks the rules of the protocol; the peer or the wire is faulty",
			n->peer_text);
		return broken(n, r->error);
	}
	if (r->state != REL_OPEN && !n->leaving) {
		if (r->reason == 0)
			err_set(&n->link.why, ESHUTDOWN, "nic: the peer has ended this flow");
		else
			err_set(&n->link.why, ESHUTDOWN, "nic: the peer gave this flow up: %s",
				r->reason < 4096 ? strerrordesc_np((int)r->reason)
						 : "unknown reason");
		return broken(n, ESHUTDOWN);
	}
	return 0;
}

// A turn of both directions. Returns what moved.
static unsigned turn(struct link_nic *n, uint64_t now_ns)
{
	unsigned moved;

	if (!n->bound) {
		port_bind(n->q, n->udp_port, n);
		n->bound = true;
		n->began_ns = now_ns;
		n->rel->heard_ns = n->rel->said_ns = n->rel->looked_ns = now_ns;
		if (n->source)
			n->send.pto_from_ns = now_ns;
		n->resolve_until_ns = now_ns + n->resolve_ns;
	}
	rel_look(n->rel, now_ns);
	if (!n->source)
		n->recv.busy = link_busy(&n->link);
	moved = read_inbox(n, now_ns);
	if (n->source)
		rel_send_timer(&n->send, now_ns);
	else
		rel_recv_timer(&n->recv, now_ns);
	if (resolved(n, now_ns))
		moved += link_nic_say(n);
	if (n->source) {
		n->link.sent = n->send.free;
		n->link.behind = (unsigned)(n->send.next - n->send.cut);
		n->link.peer_busy = n->send.peer_busy;
	}
	return moved;
}

static int64_t nic_poll(struct link *l)
{
	struct link_nic *n = nic_of(l);
	uint64_t now = port_now_ns(n->port);
	unsigned moved;
	int64_t rc;

	if (l->error != 0)
		return -l->error;
	moved = turn(n, now);
	if (n->hop_mac == 0 && now > n->resolve_until_ns && n->source)
		return nobody_answers(n);
	rc = check_end(n);
	return rc < 0 ? rc : moved;
}

static bool is_over(const struct link_nic *n, uint64_t now_ns)
{
	const struct rel *r = n->rel;

	if (n->hop_mac == 0 || r->error != 0 || now_ns > n->leave_until_ns)
		return true;
	return r->state == REL_CLOSED && r->bye_at_ns == REL_NEVER;
}

// The device has let go of all pages of the guest; or holds some of windows after so long, as a
// card does whose cable is cut. These stay mapped until it lets go, and are counted there, so that
// nobody needs the link for them.
static bool pages_are_back(struct link_nic *n, uint64_t now_ns)
{
	bool back = n->windows != NULL ? extmem_window_is_back(n->windows, n->lane)
				       : rte_mbuf_ext_refcnt_read(&n->pages) == 1;

	if (back || n->bursting || (n->windows != NULL && now_ns > n->leave_until_ns))
		return true;
	// Devices that can't be asked look when there is more to send.
	if (rte_eth_tx_done_cleanup(n->q->id, n->q->index, 0) == -ENOTSUP &&
		now_ns >= n->nudge_at_ns) {
		n->nudge_at_ns = now_ns + NUDGE_EVERY_NS;
		port_nudge(n->q);
	}
	return false;
}

static void empty(struct link_nic *n)
{
	if (n->bursting && n->windows != NULL)
		extmem_window_lost(n->windows);
	for (; n->in_head != n->in_tail; n->in_head++)
		rte_pktmbuf_free(n->in[n->in_head % NIC_INBOX].m);
	// What a burst that ended in SIGBUS had in hand may be given back already: it stays away.
	for (; n->out_head < n->out_n && !n->bursting; n->out_head++)
		rte_pktmbuf_free(n->out[n->out_head]);
	n->out_head = n->out_n = 0;
}

static bool nic_leave(struct link *l)
{
	struct link_nic *n = nic_of(l);
	uint64_t now = port_now_ns(n->port);

	if (!n->leaving) {
		n->leaving = true;
		rte_pktmbuf_free(n->making);
		n->making = NULL;
		n->leave_until_ns = now + 2 * n->rel->cfg.bye_ns;
		rel_leave(n->rel, 0, now);
	}
	if (n->bound && !n->bursting)
		turn(n, now);
	if (n->bound && !n->bursting && !is_over(n, now))
		return false;
	if (n->bound)
		port_bind(n->q, n->udp_port, NULL);
	n->bound = false;
	empty(n);
	return pages_are_back(n, now);
}

// Source.

static unsigned ahead(const struct link_tx *f)
{
	return f->nseg > 0 && f->hdr.codec == CODEC_RAW ? NIC_AHEAD : NIC_AHEAD_ENCODED;
}

static unsigned nic_tx(struct link *l, struct link_tx *f, unsigned count)
{
	struct link_nic *n = nic_of(l);
	uint64_t now = port_now_ns(n->port);
	unsigned i = 0;

	for (; n->source && l->error == 0 && i < count; i++) {
		struct nic_payload *p = &n->payload[n->send.next & (n->rel->cfg.frames - 1)];

		if (n->send.next - n->send.cut >= ahead(&f[i]) ||
			!rel_send_frame(&n->send, &f[i].hdr, now))
			break;
		p->nseg = f[i].nseg;
		p->at = p->at_bytes = 0;
		memcpy(p->seg, f[i].seg, f[i].nseg * sizeof(p->seg[0]));
		l->next_seq = n->send.next;
	}
	return i;
}

static unsigned nic_done(struct link *l, struct link_done *d, unsigned count)
{
	struct link_nic *n = nic_of(l);
	struct rel_done r;
	unsigned i = 0;

	while (i < count && n->source && rel_send_take(&n->send, &r)) {
		d[i].hdr = r.hdr;
		d[i].status = r.barrier                   ? LINK_BARRIER
			      : r.state == REL_FRAME_TORN ? LINK_TORN
			      : r.state == REL_FRAME_LOST ? LINK_LOST
							  : LINK_PLACED;
		i++;
	}
	return i;
}

// Target.

static unsigned nic_rx(struct link *l, struct link_rx *f, unsigned count)
{
	struct link_nic *n = nic_of(l);
	const struct frame *hdr;
	uint64_t pos;

	if (n->source || l->error != 0 || count == 0)
		return 0;
	if (n->taken && !rel_recv_answer(&n->recv, port_now_ns(n->port), n->taken_seq, REL_LOST))
		return 0;
	n->taken = false;
	if (!rel_recv_take(&n->recv, &hdr, &pos))
		return 0;
	f->hdr = *hdr;
	f->placed = n->place[hdr->seq & (n->rel->cfg.frames - 1)].base != NULL;
	f->payload = f->placed ? NULL : n->ring + pos % n->rel->cfg.ring_bytes;
	n->taken = hdr->type != FRAME_BARRIER;
	n->taken_seq = hdr->seq;
	return 1;
}

static bool nic_answer(struct link *l, const struct frame *f)
{
	struct link_nic *n = nic_of(l);
	uint64_t now = port_now_ns(n->port);

	if (n->source || l->error != 0)
		return true; // nobody will read it
	if (f->type == FRAME_BARRIER_ACK) {
		rel_recv_answer_barrier(&n->recv, now, f);
		return true;
	}
	if (!rel_recv_answer(&n->recv, now, f->seq, f->type == FRAME_TORN ? REL_TORN : REL_PLACED))
		return false;
	if (f->seq == n->taken_seq)
		n->taken = false;
	return true;
}

const struct link_ops link_nic = {
	.name = "nic",
	.tx = nic_tx,
	.poll = nic_poll,
	.done = nic_done,
	.rx = nic_rx,
	.answer = nic_answer,
	.leave = nic_leave,
	.seal = link_nic_seal,
	.close = link_nic_close,
};
