/* SPDX-License-Identifier: BSD-3-Clause */
/* The daemon's ports: first what its configuration file says of each, then the DPDK ports that were
 * opened. Control thread only. Order: ports_add() while the file is read, ports_check(), EAL with
 * ports_need(), ports_open(), sessions, ports_close(). */
#ifndef GODWIT_CONTROL_PORTS_H
#define GODWIT_CONTROL_PORTS_H

#include <jansson.h>

#include "lcore.h"
#include "option.h"
#include "port.h"

#define PORTS_MOST 8u

struct ports_one {
	char name[PORT_NAME];
	struct option_set options; /* rows of option_port[] */
	struct port *port;         /* NULL: not open */
};

struct ports {
	unsigned n;
	struct ports_one one[PORTS_MOST];
	const char *pci[PORTS_MOST + 1]; /* for EAL; NULL after the last */
};

/* A section of the file begins. Its options are to be given to *set. -EINVAL: no name, or one that
 * was there already, or one too many. */
int ports_add(struct ports *p, const char *name, struct option_set **set, struct err *e);
/* All that can be checked before a device is touched. 0 or -EINVAL. */
int ports_check(const struct ports *p, struct err *e);
/* Adds to EAL's configuration what the ports need: PCI devices, memory. */
void ports_need(struct ports *p, struct eal_config *c);
/* NUMA node of each port's device by /sys, where it has one; see cores_choose(). */
uint64_t ports_nodes(const struct ports *p);

/* After EAL: opens all, and logs what was chosen. -errno; what was opened stays open. */
int ports_open(struct ports *p, struct err *e);
/* No session is left. */
void ports_close(struct ports *p);

/* For status and doctor: an array of objects. New reference. */
json_t *ports_status(const struct ports *p);
/* A sentence about one. */
#define PORTS_ABOUT 224u
void ports_about(const struct port_info *i, char text[PORTS_ABOUT]);

#endif
