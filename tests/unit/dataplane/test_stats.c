// SPDX-License-Identifier: BSD-3-Clause
// Counters: names are unique, sums are sums.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "stats.h"

static void names_are_unique(void **state)
{
	(void)state;
	for (unsigned i = 0; i < STATS; i++) {
		assert_true(strlen(stats_name[i]) > 0 && strlen(stats_help[i]) > 0);
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(stats_name[i], stats_name[j]);
	}
}

static void counts_and_sums(void **state)
{
	static struct stats a, b;
	uint64_t sum[STATS] = {0};

	(void)state;
	stats_add(&a, STAT_frames, 3);
	stats_add(&a, STAT_frames, 4);
	stats_add(&b, STAT_frames, 1);
	stats_add(&b, STAT_cycles_idle, UINT64_C(1) << 40);
	stats_sum(sum, &a);
	stats_sum(sum, &b);
	assert_int_equal(stats_get(&a, STAT_frames), 7);
	assert_int_equal(sum[STAT_frames], 8);
	assert_int_equal(sum[STAT_cycles_idle], UINT64_C(1) << 40);
	assert_int_equal(sum[STAT_pages_data], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_unique),
		cmocka_unit_test(counts_and_sums),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
