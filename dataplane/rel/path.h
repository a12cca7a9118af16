/* SPDX-License-Identifier: BSD-3-Clause */
/* The largest IP packet that the path carries: found by probes (RFC 8899, datagram PLPMTUD), given
 * up where only large packets vanish. Pure; lcore only. Sizes are of IP packets, in bytes. */
#ifndef GODWIT_DATAPLANE_PATH_H
#define GODWIT_DATAPLANE_PATH_H

#include <stdbool.h>
#include <stdint.h>

struct path {
	uint32_t base;  /* works everywhere */
	uint32_t most;  /* what both ends can do */
	uint32_t mtu;   /* in use: base, or what a probe proved */
	uint32_t above; /* no more than this may work; == mtu: the search is over */
	uint32_t size;  /* probed now */
	unsigned tries; /* of it that were lost */
	bool flying;
	uint64_t number;   /* packet number of the probe in flight */
	uint64_t again_ns; /* when the search begins anew; while it is on: not before */
	unsigned vanished; /* packets larger than base lost since one arrived */
	uint64_t vanished_ns;
};

void path_init(struct path *p, uint32_t base, uint32_t most);
/* The size of a probe to send now, or 0. */
uint32_t path_probe(struct path *p, uint64_t now_ns);
void path_probe_sent(struct path *p, uint64_t number);
/* Packet `number` of size bytes came. True when the MTU grew. */
bool path_acked(struct path *p, uint64_t number, uint32_t size, uint64_t now_ns);
/* It was lost; rtt_ns says what is a short time. True when the MTU fell back to base. */
bool path_lost(struct path *p, uint64_t number, uint32_t size, uint64_t now_ns, uint64_t rtt_ns);

#endif
