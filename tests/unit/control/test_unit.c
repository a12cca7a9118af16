// SPDX-License-Identifier: BSD-3-Clause
// unit.c: sizes, rates and times.

#include "harness.h"

#include <errno.h>

#include "unit.h"

static void test_bytes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {{"0", 0}, {"4096", 4096}, {"64K", 65536}, {"64KiB", 65536}, {"1.5M", 1572864},
		{"2G", UINT64_C(2) << 30}, {"1T", UINT64_C(1) << 40}, {"10B", 10}};
	static const char *const bad[] = {"", "K", "-1", "+1", "1e9", "0x10", "inf", "1.", ".5",
		"1 K", "1k", "1Gbit", "99999999999999999999999", "9999999999T", "1KK"};
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(unit_bytes(good[i].text, &v), 0);
		assert_int_equal(v, good[i].bytes);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(unit_bytes(bad[i], &v), -EINVAL);
}

static void test_rates_and_times(void **state)
{
	uint64_t v;

	(void)state;
	assert_int_equal(unit_rate("10Gbit", &v), 0);
	assert_int_equal(v, 1250000000);
	assert_int_equal(unit_rate("500M", &v), 0);
	assert_int_equal(v, UINT64_C(500) << 20);
	assert_int_equal(unit_rate("8bit", &v), 0);
	assert_int_equal(v, 1);
	assert_int_equal(unit_rate("10Gb", &v), -EINVAL);
	assert_int_equal(unit_time("300", 1, &v), 0);
	assert_int_equal(v, 300);
	assert_int_equal(unit_time("300", 1000, &v), 0);
	assert_int_equal(v, 300000);
	assert_int_equal(unit_time("1.5s", 1, &v), 0);
	assert_int_equal(v, 1500);
	assert_int_equal(unit_time("2m", 1, &v), 0);
	assert_int_equal(v, 120000);
	assert_int_equal(unit_time("5d", 1, &v), -EINVAL);
}

static void test_put(void **state)
{
	char buf[UNIT_TEXT];

	(void)state;
	assert_string_equal(unit_put_bytes(0, buf), "0 bytes");
	assert_string_equal(unit_put_bytes(1023, buf), "1023 bytes");
	assert_string_equal(unit_put_bytes(1536, buf), "1.50 KiB");
	assert_string_equal(unit_put_bytes(UINT64_MAX, buf), "16.00 EiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_rates_and_times),
		cmocka_unit_test(test_put),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
