/* SPDX-License-Identifier: BSD-3-Clause */
/* Rates of races by round; and in the end, for people, each one's median, and how much of the bare
 * link it makes: of the fastest bare loop of its heat in the same round. */
#ifndef GODWIT_BENCH_RATES_H
#define GODWIT_BENCH_RATES_H

#include <stdbool.h>

#include "options.h"

struct rates {
	const char *name;
	unsigned heat; /* what it is compared with: bare loops of this heat */
	bool bare;
	double gib_per_s[ROUNDS_MAX];
};

/* Of n values, at least one; sorts them, so that the first and the last are the extremes. */
double rates_median(double *v, unsigned n);

/* Rounds that all of n races were in. */
void rates_print(const struct rates *r, unsigned n, unsigned rounds);

#endif
