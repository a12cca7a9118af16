/* SPDX-License-Identifier: BSD-3-Clause */
/* Who has which MAC: ARP (RFC 826) and IPv6 neighbour discovery (RFC 4861), as far as a port needs
 * them: it asks for the next hops of its links, and answers for its own addresses. Pure but for the
 * table, which all lcores of a port share; polling cores run it. */
#ifndef GODWIT_DATAPLANE_NEIGHBOUR_H
#define GODWIT_DATAPLANE_NEIGHBOUR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "udp.h"

#define NEIGHBOUR_MOST  64u  /* next hops of a port */
#define NEIGHBOUR_BYTES 128u /* the largest message that is made here */
#define NEIGHBOUR_LEAST 60u  /* Ethernet's smallest frame, without its check sequence */

struct neighbour {
	struct udp_addr addr; /* control: wo, while refs is 0 */
	unsigned refs;        /* links that use it; control only */
	/* 0: not known. Else the MAC's bytes, lowest first, and bit 63. Written by any lcore that
	 * hears of it; each value is whole, so relaxed is enough. */
	_Atomic uint64_t mac;
};

struct neighbour_table {
	_Atomic unsigned n; /* slots ever used; control: wo, lcores: ro */
	struct neighbour slot[NEIGHBOUR_MOST];
};

/* Control: the slot of an address, taken once more; NULL: all are in use. */
struct neighbour *neighbour_take(struct neighbour_table *t, const struct udp_addr *a);
void neighbour_give(struct neighbour *n);

/* False: not known yet. */
bool neighbour_mac(const struct neighbour *n, uint8_t mac[UDP_MAC_BYTES]);

/* Writes the question who has addr; returns its bytes. */
size_t neighbour_ask(
	const struct udp_own *own, const struct udp_addr *addr, uint8_t buf[NEIGHBOUR_BYTES]);

/* Reads a whole frame that udp_parse() called ARP or ICMPV6, with s->at from there; notes what it
 * says of addresses in the table. Returns the bytes of an answer in out, or 0: none is due. */
size_t neighbour_hear(struct neighbour_table *t, const struct udp_own *own, enum udp_kind kind,
	const uint8_t *buf, size_t len, const struct udp_seen *s, uint8_t out[NEIGHBOUR_BYTES]);

#endif
