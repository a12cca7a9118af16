/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of the nic link share: link_nic_open.c makes and ends it, link_nic.c is its row of
 * the link port, link_nic_tx.c makes packets of what the protocol wants said, link_nic_seal.c
 * seals and opens them. */
#ifndef GODWIT_DATAPLANE_LINK_NIC_IMPL_H
#define GODWIT_DATAPLANE_LINK_NIC_IMPL_H

#include "extmem_window_impl.h"
#include "link_nic.h"
#include "port_impl.h"
#include "rel_recv.h"
#include "rel_send.h"

#define NIC_INBOX 256u /* packets that came and were not yet read; a power of two */
/* Packets made before the device gets them: few, so that the target works while the source makes
 * the next ones, whatever the window. */
#define NIC_OUTBOX 8u
/* Frames taken before their parts may leave. Of raw ones few: what was scanned is still warm. Of
 * what a codec made as many as --codec auto leaves waiting for a silent link, AUTO_WAITING. */
#define NIC_AHEAD         2u
#define NIC_AHEAD_ENCODED 4u
#define NIC_BOUNCE_BYTES  65536u

/* A frame's payload, by seq: where it lies until rel_send.free has passed it. */
struct nic_payload {
	unsigned nseg;
	unsigned at;       /* the cursor: segment `at` begins at at_bytes of the payload */
	uint32_t at_bytes; /* parts mostly come one after the other */
	struct iovec seg[LINK_SEGS];
};

/* Where the pages of a raw frame go as they come, by seq. */
struct nic_place {
	uint64_t seq;              /* of the frame plus 1 */
	uint8_t *base;             /* NULL: into the ring */
	uint8_t page[CHUNK_PAGES]; /* of the chunk, that page n of the payload is */
	bool run;                  /* these are neighbours */
};

struct nic_in {
	struct rte_mbuf *m; /* its data is the datagram */
	bool ce;
};

struct link_nic {
	struct link link; /* first */
	struct port *port;
	struct port_queue *q;
	bool source;
	bool bound;      /* the port brings packets */
	bool leaving;    /* flow_detach() was called */
	bool said_leave; /* the protocol knows */
	uint64_t leave_until_ns, nudge_at_ns;
	uint16_t udp_port, peer_port;
	struct udp_addr peer;
	char peer_text[PORT_ADDRESS_TEXT];

	/* next hop */
	struct neighbour *hop;
	struct udp_addr hop_addr;
	uint64_t hop_mac; /* as in struct neighbour; 0: not known yet */
	uint64_t ask_at_ns, resolve_until_ns, began_ns;
	uint64_t resolve_ns;
	struct udp_head head;

	/* the protocol; one of them */
	struct rel_send send;
	struct rel_recv recv;
	struct rel *rel; /* of that one */
	void *rel_mem;
	size_t rel_bytes;

	/* source */
	struct nic_payload *payload; /* [frames], at seq % frames */
	bool zero_copy;
	enum udp_summing summing;
	bool device_ip_sum;
	struct extmem_window *windows;         /* NULL: the device copies what it takes */
	unsigned lane;                         /* of theirs */
	struct rte_mbuf_ext_shared_info pages; /* without: one more than packets' pieces */
	/* target */
	struct nic_place *place; /* [frames] */
	uint8_t *ring;           /* ring_bytes, and a payload */
	bool taken;              /* the frame of seq taken_seq was handed out and not answered */
	uint64_t taken_seq;

	struct nic_in in[NIC_INBOX]; /* [in_head, in_tail) */
	uint32_t in_head, in_tail;
	uint8_t *bounce; /* for a packet that came in pieces */
	/* sealed: */
	struct seal *seal_out, *seal_in;
	uint8_t *opened;                  /* NIC_BOUNCE_BYTES: what came, once its tag is right */
	struct rte_mbuf *out[NIC_OUTBOX]; /* [out_head, out_n) wait for the device */
	unsigned out_head, out_n;
	struct rte_mbuf *making; /* not yet whole: SIGBUS may end the turn meanwhile */
	bool bursting; /* the device has them in hand: after SIGBUS in there nobody knows which */

	struct link_nic_faults faults;
};

static inline struct link_nic *nic_of(struct link *l)
{
	return (struct link_nic *)l;
}

/* link_nic_tx.c: says what is to be said, as far as the device takes it. Returns packets. */
unsigned link_nic_say(struct link_nic *n);
/* Gives the device what waits for it. True when nothing waits any more. */
bool link_nic_flush(struct link_nic *n);

/* link_nic_seal.c: writes what o says, sealed, to buf; seg: its part. False: the link is broken. */
bool link_nic_seal_out(struct link_nic *n, const struct rel_out *o, const struct iovec *seg,
	unsigned nseg, uint8_t *buf);
/* Opens a datagram into n->opened. False: it is nobody's business, and counted. */
bool link_nic_unseal(struct link_nic *n, const uint8_t *buf, size_t len);

void link_nic_close(struct link *l);
int link_nic_seal(struct link *l, const struct seal_ops *ops, const struct seal_secret *out,
	const struct seal_secret *in, int node, struct err *e);
extern const struct link_ops link_nic;

#endif
