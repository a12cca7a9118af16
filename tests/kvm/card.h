/* SPDX-License-Identifier: BSD-3-Clause */
/* A network card as a guest has it by vhost-user: DPDK's back end in a process of its own, and the
 * VMM's end of its socket here. Packets that it receives are written to guest memory. */
#ifndef GODWIT_TESTS_CARD_H
#define GODWIT_TESTS_CARD_H

#include "region.h"

struct card;

/* Starts the back end, and shows it the views of the map and one more region for its ring, below
 * them all. 0, or 1 with the reason to skip in e. */
int card_open(struct card **c, const struct region_map *map, struct err *e);
void card_close(struct card *c); /* NULL is allowed */

/* Lets it log to a memfd of so many bytes, or ends that (fd -1). */
int card_log(struct card *c, int fd, uint64_t bytes, struct err *e);

/* A packet with this value is received to a guest address. Ends the process where it is not. */
void card_write(struct card *c, uint64_t gpa, uint32_t value);

#endif
