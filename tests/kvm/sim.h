/* SPDX-License-Identifier: BSD-3-Clause */
/* A migration in one thread: a guest that writes at random between any two steps, and an oracle. */
#ifndef GODWIT_TESTS_SIM_H
#define GODWIT_TESTS_SIM_H

#include <stdint.h>

#include "rig.h"

/* What was reported, of runs of one rig. A report is needed where a page of its granule was
 * written, or put back, since a look showed it and it was armed. What a source starts with is
 * needed once. */
struct sim_tally {
	uint64_t causes;     /* pages written or put back */
	uint64_t reported;   /* pages that a look added to those in hand */
	uint64_t neighbours; /* of them: written was another page of the granule */
	uint64_t needless;   /* of them: nothing in the granule was */
	int64_t quiet;       /* of the last run: pages reported once nothing is written any more */
};

/* Plays one seed, adds to t. Returns pages that differ at the end (0: right), or -1 with e set. */
int64_t sim_run(struct rig *r, uint64_t seed, struct sim_tally *t, struct err *e);

bool sim_tally_good(const struct sim_tally *t, uint64_t granule_pages);
void sim_tally_print(const struct sim_tally *t);

#endif
