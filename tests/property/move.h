/* SPDX-License-Identifier: BSD-3-Clause */
/* One migration of a simulated guest, every step at a random moment. */
#ifndef GODWIT_TESTS_MOVE_H
#define GODWIT_TESTS_MOVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What happened over all seeds, so that the test can tell that it tested something. */
struct move_facts {
	uint64_t passes, frames, torn, lost, stale, twice, holes, writes, pages;
	uint64_t free, balloon; /* pages left out */
	uint64_t kept;          /* seeds in which the target kept old content */
};

/* True when the target ended up as the source; else why says what is wrong. The same seed does the
 * same steps. */
bool move_run(uint64_t seed, struct move_facts *facts, char *why, size_t bytes);

#endif
