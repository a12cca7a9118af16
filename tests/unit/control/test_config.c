// SPDX-License-Identifier: BSD-3-Clause
// config.c: the file, and what it says about mistakes.

#include "harness.h"

#include <errno.h>

#include "config.h"

static struct option_set o;

static int parse(const char *text, struct err *e)
{
	option_init(&o, option_godwitd, OPTION_FILE);
	return config_parse(&o, "godwit.conf", text, strlen(text), e);
}

static void test_good(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(parse("", &e), 0);
	assert_string_equal(option_text(&o, "listen"), ":4646");
	assert_int_equal(parse("# a comment\n\n listen = [::1]:5000 # mine\r\nmemory=1G\n"
			       "idle =poll\nlog-level = debug",
				 &e),
		0);
	assert_string_equal(option_text(&o, "listen"), "[::1]:5000");
	assert_int_equal(option_number(&o, "memory"), UINT64_C(1) << 30);
	assert_string_equal(option_text(&o, "idle"), "poll");
	assert_true(option_given(&o, "log-level"));
	assert_false(option_given(&o, "cores"));
}

static void test_mistakes(void **state)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{"listen\n", "godwit.conf:1: 'listen': write KEY = VALUE"},
		{"\n\nlisen = x\n", "godwit.conf:3: unknown key 'lisen'"},
		{"config = x\n", "unknown key 'config'"},
		{"idle = never\n", "is not one of auto|poll|yield"},
		{"memory = 1\n", "is not from 16777216"},
		{"memory = lots\n", "is not a size such as"},
		{"listen =\n", "the value is empty"},
	};
	char longest[600];
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(parse(rows[i].text, &e), -EINVAL);
		assert_has(e.text, rows[i].says);
	}
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(parse(longest, &e), -EINVAL);
	assert_int_equal(config_parse(&o, "f", "a\0b", 3, &e), -EINVAL);
	assert_int_equal(config_read(&o, "/proc/no-such-file", &e), -ENOENT);
	assert_true(config_read(&o, "/dev/zero", &e) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_mistakes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
