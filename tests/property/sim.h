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

	/* Hints, where sim_hint_open() was called; else NULL. Words a chunk. */
	uint64_t *hints;    /* planes BALLOON and FREE, as the VMM shares them */
	uint64_t *unused;   /* the guest does not care what these pages hold: free, or given up */
	uint64_t *given;    /* of these: in the balloon, as the guest sees it */
	uint64_t *reported; /* told free, not yet looked at */
	bool must_tell;     /* the guest tells before it takes a page out of the balloon */
	uint32_t free_id;   /* 0: it is not asked for free pages */
};

/* Both memories; the source's is populated in part, the target's files hold old content. */
void sim_open(struct sim *s, struct seed *seed);
void sim_close(struct sim *s);

/* The guest does something: writes a word, fills or clears pages, gives pages back. */
void sim_guest(struct sim *s);

/* With sim_hint_open(): pages become free, are reported when that was asked for, go into the
 * balloon. */
void sim_hint_open(struct sim *s);
void sim_hint_close(struct sim *s);
void sim_hint_guest(struct sim *s);
/* A page of the region for the guest to write: often one that was reported a moment ago, as
 * allocators do; else page. */
uint64_t sim_hint_page(struct sim *s, const struct region *r, uint64_t page);
/* Before the guest writes pages [first, first + n), bits of the planes. */
void sim_hint_use(struct sim *s, uint64_t first, uint64_t n);
/* What was reported goes to the plane FREE; then a look. Returns how many pages. */
uint64_t sim_hint_look(struct sim *s, uint64_t *out);

/* A dirty source on it: kvm/source.h says what they do. */
void sim_look(struct sim *s, uint64_t *out);
void sim_arm(struct sim *s, uint64_t first, uint64_t n, const uint64_t *want, uint64_t *out);

/* Calls found() for each run of region r that is no hole, as hole_walk() does. */
int sim_populated(const struct region *r, int (*found)(void *arg, uint64_t offset, uint64_t bytes),
	void *arg);

/* False, and says where, if the target's memory is not the source's, or holds what is a hole. */
bool sim_same(const struct sim *s, char *why, size_t bytes);

#endif
