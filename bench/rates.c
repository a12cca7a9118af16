// SPDX-License-Identifier: BSD-3-Clause
// Medians of races over their rounds, and shares of the bare link, which are taken within a round:
// what a link carries changes from one to the next. Run once, when all rounds are over.

#include "rates.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double rates_median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), by_value);
	return (v[(n - 1) / 2] + v[n / 2]) / 2;
}

// Of the fastest bare loop of that heat; 0: there is none.
static double bare(const struct rates *r, unsigned n, unsigned heat, unsigned round)
{
	double most = 0;

	for (unsigned i = 0; i < n; i++)
		if (r[i].bare && r[i].heat == heat && r[i].gib_per_s[round] > most)
			most = r[i].gib_per_s[round];
	return most;
}

void rates_print(const struct rates *r, unsigned n, unsigned rounds)
{
	bool shares = false;

	if (rounds == 0)
		return;
	printf("%-20s %10s %17s %6s\n", "medians", "GiB/s", "min to max", "share");
	for (unsigned i = 0; i < n; i++) {
		double v[ROUNDS_MAX], share[ROUNDS_MAX], mid;

		for (unsigned k = 0; k < rounds; k++) {
			double of = bare(r, n, r[i].heat, k);

			v[k] = r[i].gib_per_s[k];
			share[k] = of > 0 ? 100 * v[k] / of : 0;
		}
		mid = rates_median(v, rounds);
		printf("%-20s %10.2f %8.2f %8.2f", r[i].name, mid, v[0], v[rounds - 1]);
		mid = rates_median(share, rounds);
		if (mid > 0)
			printf(" %5.0f%%", mid);
		printf("\n");
		shares |= mid > 0;
	}
	if (shares)
		printf("share: of the fastest bare loop over that link in the same round\n");
}
