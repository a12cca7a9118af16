/* SPDX-License-Identifier: BSD-3-Clause */
/* How much may be in flight, and how fast it leaves: the congestion control of one flow.
 *
 * It is Swift (Kumar and others, SIGCOMM 2020): the round-trip time against a target; additive
 * increase below it, a decrease in proportion to the excess above it. Three things are added, each
 * from what others published:
 *  - Swift knows the fabric's delay. Here the base is measured, so flows must agree on when the
 *    queue is empty: where it was not seen empty for some rounds they drain it at the next sign of
 *    congestion, which all see at the same time (the idea of BBR's ProbeRTT);
 *  - the increase of a round is the square root of the window (a binomial control: Bansal and
 *    Balakrishnan, INFOCOM 2001), which is fair as one packet is, and fast on long paths;
 *  - marks of the network (ECN) shrink the window by half their share (DCTCP, SIGCOMM 2010).
 * Swift tells the fabric's delay from the hosts' by the clocks of its cards. Here a core that
 * others share knows how long it was away; a round trip of which that may be the larger part says
 * nothing of the network, and a round with no other ones is taken for one without a queue: on such
 * hosts loss and marks are what is left. Loss is no sign of congestion as long as no queue stands
 * and less than 15 % are lost. Above that, or with a queue, the window shrinks by the share that
 * was lost.
 *
 * Pure: times are arguments, in ns. One decision a round trip, so a packet costs next to nothing.
 * Lcore only. */
#ifndef GODWIT_DATAPLANE_CONGESTION_H
#define GODWIT_DATAPLANE_CONGESTION_H

#include <stdbool.h>
#include <stdint.h>

struct congestion {
	uint64_t target_ns;  /* of queueing */
	uint64_t mss_bytes;  /* of a datagram */
	uint64_t most_bytes; /* the window is never larger */
	uint64_t window_bytes;
	bool slow_start;

	/* Round trips with what they waited for cores: for timeouts and the judgement of losses. */
	uint64_t whole_ns, var_ns, latest_ns;
	uint64_t srtt_ns;         /* of those that the network alone took */
	bool measured;            /* these are more than a guess */
	uint64_t base_ns;         /* least of this and the last period: the path without queues */
	uint64_t period_ns;       /* least of this period */
	uint64_t period_began_ns; /* when */

	/* the round under way */
	uint64_t least_ns; /* round-trip time; UINT64_MAX: no sample yet */
	uint32_t acked, marked;
	bool limited; /* the window held something back */
	bool blind;   /* a round trip was measured, but cores took most of it */

	uint32_t sample_acked, sample_lost; /* until there are enough for a rate */
	uint64_t queue_ns;                  /* in the last round */
	unsigned full_rounds;               /* since the queue was seen empty */
	unsigned draining;                  /* rounds to go */
	uint64_t drain_bytes;               /* the window meanwhile */
};

void congestion_init(struct congestion *c, uint64_t target_ns, uint64_t first_rtt_ns,
	uint64_t mss_bytes, uint64_t most_bytes);

/* A round trip that was measured, without the peer's own delay. away_ns: of it so much may have
 * been spent in devices whose cores were not there. */
void congestion_sample(struct congestion *c, uint64_t now_ns, uint64_t rtt_ns, uint64_t away_ns);
/* A packet that was thought lost had come. */
void congestion_found(struct congestion *c);
/* What was sent at the round's begin is acknowledged: decide. */
void congestion_round(struct congestion *c);
/* Nothing was heard for several timeouts: begin anew. */
void congestion_collapse(struct congestion *c);

static inline void congestion_acked(struct congestion *c, uint32_t packets, uint32_t marked)
{
	c->acked += packets;
	c->marked += marked;
	c->sample_acked += packets;
}

static inline void congestion_lost(struct congestion *c)
{
	c->sample_lost++;
}

/* Bytes that may be in flight. */
static inline uint64_t congestion_window(const struct congestion *c)
{
	return c->draining > 0 ? c->drain_bytes : c->window_bytes;
}

/* Bytes a second at which they leave. */
uint64_t congestion_rate(const struct congestion *c);

#endif
