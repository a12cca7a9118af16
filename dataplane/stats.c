// SPDX-License-Identifier: BSD-3-Clause
// Names and sums of the counters. Run by control; the counting itself is inline in stats.h.

#include "stats.h"

const char *const stats_name[STATS] = {
#define X(name, help) #name,
	STATS_LIST(X)
#undef X
};

const char *const stats_help[STATS] = {
#define X(name, help) help,
	STATS_LIST(X)
#undef X
};

void stats_sum(uint64_t sum[STATS], const struct stats *s)
{
	for (unsigned i = 0; i < STATS; i++)
		sum[i] += stats_get(s, (enum stats_id)i);
}
