// SPDX-License-Identifier: BSD-3-Clause
// api_rights.c: who may ask what.

#include "harness.h"

#include "api_rights.h"

// Who may do what: owner, group and others by the mode's bits, as a file has them; then readers.
static void test_rights(void **state)
{
	const struct api_rules rules = {.owner = 100, .group = 200, .mode = 0660, .readers = 300};
	struct api_rules open = rules, closed = rules;

	(void)state;
	open.everybody = true;
	closed.mode = 0600;
	closed.readers = (gid_t)-1;
	assert_int_equal(api_rights(&rules, 0, (gid_t[]){0}, 1), API_ALL);
	assert_int_equal(api_rights(&rules, 100, (gid_t[]){7}, 1), API_ALL);
	assert_int_equal(api_rights(&rules, 5, (gid_t[]){7, 200}, 2), API_ALL);
	assert_int_equal(api_rights(&rules, 5, (gid_t[]){7, 300}, 2), API_READ);
	assert_int_equal(api_rights(&rules, 5, (gid_t[]){7}, 1), API_NONE);
	assert_int_equal(api_rights(&rules, 5, NULL, 0), API_NONE);
	assert_int_equal(api_rights(&open, 5, (gid_t[]){7}, 1), API_READ);
	assert_int_equal(api_rights(&closed, 5, (gid_t[]){200}, 1), API_NONE);
	assert_int_equal(api_rights(&closed, 5, (gid_t[]){(gid_t)-1}, 1), API_NONE);
	assert_true(api_rights_reads("status"));
	assert_true(api_rights_reads("watch"));
	assert_false(api_rights_reads("migrate"));
	assert_false(api_rights_reads("resolve"));
	assert_false(api_rights_reads("set"));
	assert_false(api_rights_reads("no such thing"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rights),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
