/* SPDX-License-Identifier: BSD-3-Clause */
/* A simulated guest: memory in files, a dirty log that is exact, writes and holes at random. */
#ifndef GODWIT_TESTS_SIM_H
#define GODWIT_TESTS_SIM_H

#include <stdbool.h>

#include "region.h"
#include "seed.h"

#define SIM_REGIONS 4u

struct sim {
	struct seed *seed;
	struct region_map from, to;
	uint64_t *log;   /* what the kernel would know: written since armed; a word a chunk */
	bool log_extras; /* arming a range consumes all of it, and returns what was not wanted */
	uint64_t writes;
};

/* Both memories; the source's is populated in part, the target's files hold old content. */
void sim_open(struct sim *s, struct seed *seed);
void sim_close(struct sim *s);

/* The guest does something: writes a word, fills or clears pages, gives pages back. */
void sim_guest(struct sim *s);

/* A dirty source on it: kvm/source.h says what they do. */
void sim_look(struct sim *s, uint64_t *out);
void sim_arm(struct sim *s, uint64_t first, uint64_t n, const uint64_t *want, uint64_t *out);

/* Calls found() for each run of region r that is no hole, as hole_walk() does. */
int sim_populated(const struct region *r, int (*found)(void *arg, uint64_t offset, uint64_t bytes),
	void *arg);

/* False, and says where, if the target's memory is not the source's, or holds what is a hole. */
bool sim_same(const struct sim *s, char *why, size_t bytes);

#endif
