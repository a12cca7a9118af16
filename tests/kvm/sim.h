/* SPDX-License-Identifier: BSD-3-Clause */
/* A migration in one thread: a guest that writes at random between any two steps, and an oracle. */
#ifndef GODWIT_TESTS_SIM_H
#define GODWIT_TESTS_SIM_H

#include <stdint.h>

#include "rig.h"

/* Plays one seed. Returns pages that differ at the end (0: right), or -1 with e set. quiet gets
 * the pages reported once nothing is written any more. */
int64_t sim_run(struct rig *r, uint64_t seed, int64_t *quiet, struct err *e);

#endif
