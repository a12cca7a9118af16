/* SPDX-License-Identifier: BSD-3-Clause */
/* Between choose.c and choose_link.c. */
#ifndef GODWIT_DATAPLANE_CHOOSE_IMPL_H
#define GODWIT_DATAPLANE_CHOOSE_IMPL_H

#include "choose.h"

#define CHOOSE_WEIGHT (1.0 / 8) /* of a new observation */

/* While nothing is known of its rate, a link that holds as much is too slow for raw pages. */
#define CHOOSE_FIRST_BYTES (double)(1u << 20)

/* What the link looks like now, and since the last frame: c->link, with the pressure that is
 * meant, and what is learned of it. */
void choose_follow(struct choose *c, const struct choose_link *l);

#endif
