/* SPDX-License-Identifier: BSD-3-Clause */
/* What a target's daemon offers to carry pages with, and what the source's makes of it: which port
 * here, which there, and of which address family. Control loop only; no state. */
#ifndef GODWIT_CONTROL_OFFER_H
#define GODWIT_CONTROL_OFFER_H

#include <jansson.h>

#include "ports.h"

/* The open ports, for a message: an array of name, up, mtu, ipv4, ipv6. New reference. */
json_t *offer_make(const struct ports *p);

/* How a port's device spreads what comes, for a message: {"key": HEX, "queues": a hex digit an
 * entry}. NULL where it does not tell (NULL). New reference. */
json_t *offer_make_spread(const struct port_rss *r);
/* The same from outside, checked; both families are taken as spread. 0 or -EPROTO. */
int offer_read_spread(struct port_rss *r, const json_t *told, struct err *e);

struct offer_choice {
	struct port *port;               /* here */
	char name[PORT_NAME];            /* its name */
	char there[PORT_NAME];           /* the target's port */
	char address[PORT_ADDRESS_TEXT]; /* here, of the family chosen */
	char reached[PORT_ADDRESS_TEXT]; /* the target's */
	unsigned mtu;                    /* the smaller one */
};

/* The first pair of ports that are up and of which the one here reaches the other: its address is
 * inside of the prefix, or there is a gateway. theirs: from outside, checked. 0; -ENODEV: no port
 * here, or none there; -EHOSTUNREACH: no such pair; -EPROTO: nonsense; e says it in words. */
int offer_choose(
	struct offer_choice *c, const struct ports *here, const json_t *theirs, struct err *e);

#endif
