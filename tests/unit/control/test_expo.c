// SPDX-License-Identifier: BSD-3-Clause
// expo.c: the text of families and samples, and label values that try to break out of it.

#include "harness.h"

#include "expo.h"

#include <math.h>

static void test_text(void **state)
{
	char *text = NULL;
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);

	(void)state;
	expo_family(out, "a", "counter", "what it counts");
	expo_count(out, "a", "_total", UINT64_MAX, NULL);
	expo_count(out, "a", "_total", 0, "side", "source", "x", "", NULL);
	expo_family(out, "b", "gauge", "g");
	expo_number(out, "b", "", 0.25, "name", "q\"\\\nq} 1", NULL);
	expo_number(out, "b", "", NAN, NULL);
	expo_number(out, "b", "", INFINITY, NULL);
	expo_number(out, "b", "", -INFINITY, NULL);
	expo_end(out);
	fclose(out);
	assert_string_equal(text, "# TYPE a counter\n"
				  "# HELP a what it counts.\n"
				  "a_total 18446744073709551615\n"
				  "a_total{side=\"source\",x=\"\"} 0\n"
				  "# TYPE b gauge\n"
				  "# HELP b g.\n"
				  "b{name=\"q\\\"\\\\\\nq} 1\"} 0.25\n"
				  "b NaN\n"
				  "b +Inf\n"
				  "b -Inf\n"
				  "# EOF\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_text)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
