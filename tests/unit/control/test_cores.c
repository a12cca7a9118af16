// SPDX-License-Identifier: BSD-3-Clause
// cores.c: which CPUs are chosen.

#include "harness.h"

#include <errno.h>

#include "cores.h"

static cpu_set_t cpus(int n)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (int i = 0; i < n; i++)
		CPU_SET(i, &set);
	return set;
}

static void test_choice(void **state)
{
	static const struct {
		const char *asked, *isolated, *list;
		int may, rc;
		bool alone;
		const char *near, *shared;
	} rows[] = {
		{"", "2-3", "3", 4, 0, true, "0,3", ""},
		{"", "2-3", "2,3", 4, 0, true, "0-1", ""},
		{"", "", "1", 4, 0, false, "0-1", "1"},
		{"1-3", "2-3", "1-3", 4, 0, false, "2", "1"},
		{"", "", "3", 4, 0, false},
		{"", "", "0", 1, 0, false},
		{"", "2-3", "2,3", 4, 0, true},
		{"", "2-9", "2,3", 4, 0, true},
		{"", "8-9", "3", 4, 0, false},
		{"1", "", "1", 4, 0, false},
		{"0,0", "", "0,0", 2, 0, false},
		{"2-3", "2-3", "2-3", 4, 0, true},
		{"1-3", "2-3", "1-3", 4, 0, false},
		{"4", "", "", 4, -EINVAL, false},
		{"0-9", "", "", 4, -EINVAL, false},
		{"3-2", "", "", 4, -EINVAL, false},
		{"a", "", "", 4, -EINVAL, false},
		{"1,", "", "", 4, -EINVAL, false},
		{"99999999", "", "", 4, -EINVAL, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cpu_set_t may = cpus(rows[i].may), near;
		struct cores c;
		struct err e;

		CPU_ZERO(&near);
		if (rows[i].near != NULL)
			assert_int_equal(cores_parse(rows[i].near, &near), 0);
		assert_int_equal(cores_choose(&c, rows[i].asked, &may, rows[i].isolated, &near, &e),
			rows[i].rc);
		if (rows[i].rc == 0) {
			assert_string_equal(c.list, rows[i].list);
			assert_int_equal(c.isolated, rows[i].alone);
			if (rows[i].shared != NULL)
				assert_string_equal(c.shared, rows[i].shared);
		} else {
			assert_has(e.text, "cores:");
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_choice)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
