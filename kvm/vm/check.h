/* SPDX-License-Identifier: BSD-3-Clause */
/* The host's own check of the guest's memory, while no vCPU runs. */
#ifndef GODWIT_VM_CHECK_H
#define GODWIT_VM_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "memory.h"

struct check_result {
	uint64_t ok;      /* pages that hold what they should */
	uint64_t bad;     /* pages that do not */
	uint64_t bad_gpa; /* the first of them */
	char why[96];     /* what is wrong with it */
};

/* Compares every stamped page with the table of counts. deep: also compares all content beside
 * the stamps, and pages that were never stamped, with the image they began as. Holes are not read.
 * 0, or -EPROTO with a sentence: the guest's parameters make no sense. */
int check_memory(const struct memory *m, bool deep, struct check_result *res, struct err *e);

/* The guest's parameters, checked against the layout. NULL with a sentence if they are not. */
const struct params *check_params(const struct memory *m, struct err *e);

/* Pages stamped so far, as the guest counts them. */
uint64_t check_done(const struct memory *m);

#endif
