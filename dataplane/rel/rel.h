/* SPDX-License-Identifier: BSD-3-Clause */
/* Reliable frames over datagrams: what both ends share. A flow has a sender (rel_send.h) at the
 * source and a receiver (rel_recv.h) at the target. Both are pure: time, datagrams and losses come
 * in as arguments, datagrams to send come out; memory is given at init. One lcore runs an end.
 *
 * How a link drives an end: each datagram that came goes in; then next_packet() until it returns
 * false; then nothing needs be done until deadline(), when timer() is called. */
#ifndef GODWIT_DATAPLANE_REL_H
#define GODWIT_DATAPLANE_REL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "packet.h"

#define REL_NEVER UINT64_MAX

/* What control agreed on for a flow. Tokens are random, and differ for each flow and direction. */
struct rel_config {
	uint64_t token_out, token_in;
	uint32_t frames;         /* in flight at most; a power of two, 64 to PACKET_FRAMES */
	uint32_t packets;        /* in flight at most; a power of two, 4096 to 65536 */
	uint64_t ring_bytes;     /* of payload in flight; the target holds that much */
	uint32_t mtu_base;       /* of IP packets: works everywhere; 1280 or more */
	uint32_t mtu_most;       /* what both devices can do; below 64 KiB */
	uint32_t overhead_bytes; /* IP and UDP headers: 28 or 48 */
	bool sealed;             /* who hands in datagrams has checked their tags */
	bool page_parts;         /* raw payload is cut at pages where a page fits */
	uint64_t first_number;   /* of this end's packets */

	uint64_t target_ns;    /* queueing that congestion control aims at */
	uint64_t first_rtt_ns; /* a guess */
	uint32_t ack_packets;  /* the target acknowledges so many at once, */
	uint64_t ack_delay_ns; /* or after this */
	uint64_t least_pto_ns; /* a timeout is never shorter */
	uint64_t most_pto_ns;  /* with backoff never longer, unless the path is */
	uint64_t keepalive_ns; /* silence after which a sign of life is asked for */
	uint64_t dead_ns;      /* silence after which the peer is dead */
	uint64_t barrier_ns; /* a barrier, nothing heard for so long: gives up the rest; 0: never */
	uint64_t bye_ns;     /* how long a goodbye waits for its answer */
};

/* Sensible values for all but tokens, mtu_most and overhead. */
void rel_config_init(struct rel_config *c);

enum rel_state {
	REL_OPEN,
	REL_LEAVING, /* said BYE, not answered yet */
	REL_LEFT,    /* the peer said BYE; we answer as long as it asks */
	REL_CLOSED,  /* both know: the port may close */
};

/* A datagram to send: a header, then a part of a frame's payload, then pad_bytes zeros. The link
 * calls packet_seal() on header and part, or seals them. */
struct rel_out {
	uint8_t hdr[PACKET_ACK_MOST];
	size_t hdr_bytes;
	uint64_t seq;    /* DATA: of the frame */
	uint32_t offset; /* in its payload */
	uint32_t bytes;  /* of it; 0: none */
	uint32_t pad_bytes;
	bool copy; /* a resend: copy the part first, so that a guest that writes it can't spoil the
		    * tag again */
};

/* What happened, for metrics and tests. */
struct rel_stats {
	uint64_t packets_out, packets_in;
	uint64_t bad, duplicate, beyond;          /* dropped */
	uint64_t lost, spurious, timeouts, holes; /* sender: holes of the path's MTU */
};

/* First in each end's struct. */
struct rel {
	struct rel_config cfg;
	enum rel_state state;
	int error;       /* positive errno, for good: ETIMEDOUT, EPROTO; or what the peer said */
	uint32_t reason; /* of the goodbye, ours or the peer's */
	uint64_t number; /* of the next packet */
	uint64_t heard_ns, said_ns;
	uint64_t looked_ns;   /* the core was here last */
	uint64_t away_sum_ns; /* how long it was away so far */
	/* Until away_until_ns: what was not done in so long may be made up for. */
	uint64_t away_ns, away_until_ns;
	uint64_t bye_at_ns;    /* the next BYE goes out; REL_NEVER: none due */
	uint64_t bye_until_ns; /* waiting for its answer, or answering, ends */
	struct rel_stats stats;
};

void rel_init(struct rel *r, const struct rel_config *cfg, uint64_t now_ns);

/* Once a turn, before what came is handed in. A core that others share is not always there: what it
 * finds then has waited for it, nobody knows how long, and that is no sign of the network. Nor is
 * the silence of a peer that nobody listened to. */
void rel_look(struct rel *r, uint64_t now_ns);
/* How long the core was away lately; 0: it is back for as long again, or was not away. */
uint64_t rel_away(const struct rel *r, uint64_t now_ns);
/* In all, as an ACK has it. */
uint16_t rel_away_sum(const struct rel *r);

/* Ends the flow: nothing but the goodbye is sent from now on. reason: 0, or errno. */
void rel_leave(struct rel *r, uint32_t reason, uint64_t now_ns);

/* For both ends' own use. */

/* Reads what a datagram begins with, and checks its tag where that is not the link's. 0 or a
 * negative value of enum packet_bad. */
int rel_open(const struct rel *r, struct packet *p, const uint8_t *buf, size_t len);
/* What one type of packet of this end begins with; takes the next number. */
struct packet rel_begin(struct rel *r, uint8_t type, uint64_t now_ns);
void rel_on_bye(struct rel *r, const struct packet *p, const uint8_t *buf, uint64_t now_ns);
bool rel_next_bye(struct rel *r, uint64_t now_ns, struct rel_out *o);
/* Death of the peer, end of the goodbye. */
void rel_timer(struct rel *r, uint64_t now_ns);
uint64_t rel_deadline(const struct rel *r);

static inline uint64_t rel_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t rel_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Lines of a payload; a frame without one has a line of 0 bytes, so that it can be sent at all. */
static inline uint32_t rel_lines(uint32_t payload_bytes)
{
	return payload_bytes == 0 ? 1 : (payload_bytes + PACKET_LINE_BYTES - 1) / PACKET_LINE_BYTES;
}

/* What a payload takes of the stream of all payloads. */
static inline uint64_t rel_room(uint32_t payload_bytes)
{
	return payload_bytes == 0 ? 0 : (uint64_t)rel_lines(payload_bytes) * PACKET_LINE_BYTES;
}

#define REL_LINES      (FRAME_PAYLOAD_BYTES / PACKET_LINE_BYTES) /* of the largest payload */
#define REL_LINE_WORDS (REL_LINES / 64)

#endif
