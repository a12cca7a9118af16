// SPDX-License-Identifier: BSD-3-Clause
// identity.c: which names a pattern stands for, and which texts are names at all.

#include "harness.h"

#include <errno.h>

#include "identity.h"

static void test_matches(void **state)
{
	static const struct {
		const char *pattern, *name;
		bool yes;
	} cases[] = {
		{"a.example", "a.example", true},
		{"a.example", "A.EXAMPLE", true},
		{"a.example", "a.example.", false},
		{"a.example", "b.a.example", false},
		{"a.example", "xa.example", false},
		{"*.example", "a.example", true},
		{"*.example", "A.Example", true},
		{"*.example", "b.a.example", false},
		{"*.example", "example", false},
		{"*.example", ".example", false},
		{"*.example", "*.example", true}, // a name is never a pattern, but for its own text
		{"*.0.2.7", "192.0.2.7", false},
		{"192.0.2.7", "192.0.2.7", true},
		{"192.0.2.7", "192.0.2.70", false},
		{"::1", "0:0:0:0:0:0:0:1", true},
		{"::ffff:192.0.2.7", "192.0.2.7", false},
		{"2001:db8::1", "2001:DB8::1", true},
		{"a", "", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (identity_matches(cases[i].pattern, cases[i].name) != cases[i].yes)
			fail_msg("%s, %s", cases[i].pattern, cases[i].name);
}

static void test_names(void **state)
{
	static const char *const good[] = {"a", "a.example", "a-b_c.example", "192.0.2.7", "::1"};
	static const char *const bad[] = {"", ".a", "a..b", "-a", "a b", "a,b", "a\n", "*", "*.a",
		"a.*", "DNS:a", "../a", "a/b", "\xc3\xa9"};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(identity_is_name(good[i], false));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(identity_is_name(bad[i], false));
	assert_true(identity_is_name("*.a", true));
	assert_false(identity_is_name("*.*.a", true));
	assert_false(identity_is_name("*.", true));
}

static void test_lists(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(identity_check_list("a.example", &e), 0);
	assert_int_equal(identity_check_list(" *.b.example, 192.0.2.7,::1 ", &e), 0);
	assert_int_equal(identity_check_list("", &e), -EINVAL);
	assert_int_equal(identity_check_list(" , ", &e), -EINVAL);
	assert_int_equal(identity_check_list("a.example, b*", &e), -EINVAL);
	assert_has(e.text, "'b*'");
	assert_true(identity_listed("a.example, *.b.example", "x.b.example"));
	assert_true(identity_listed("a.example,192.0.2.7", "192.0.2.7"));
	assert_false(identity_listed("a.example, *.b.example", "b.example"));
	assert_false(identity_listed("", "a"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matches),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
