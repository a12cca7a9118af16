// SPDX-License-Identifier: BSD-3-Clause
// The table of stages: how long the source waits for each, and that nobody can keep a paused guest
// waiting for ever.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "session_impl.h"

static uint64_t seconds(const char *name, uint64_t guest_bytes)
{
	unsigned i = stage_find(name);

	assert_true(i < stage_count);
	return stage_deadline_ms(&stage_table[i], guest_bytes) / 1000;
}

// 60 s, and 4 s a GiB, which no digest takes.
static void verify_waits_by_the_guest(void **state)
{
	static const struct {
		uint64_t bytes, seconds;
	} rows[] = {{0, 60}, {(UINT64_C(1) << 30) - 1, 60}, {UINT64_C(1) << 30, 64},
		{UINT64_C(256) << 30, 60 + 1024}, {UINT64_C(12) << 40, 60 + 4 * 12 * 1024}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(seconds("verify", rows[i].bytes), rows[i].seconds);
	assert_int_equal(seconds("prepare", UINT64_C(1) << 40), 120 + 4 * 1024);
}

// From the pause on, each stage has a deadline that begins with it or is one of those that copy,
// whose flows have their own (--peer-timeout).
static void no_stage_of_the_pause_is_endless(void **state)
{
	(void)state;
	for (unsigned i = stage_find("pause"); i < stage_count; i++) {
		const struct stage *st = &stage_table[i];
		bool copies = st->source == precopy_last || st->source == precopy_late;

		assert_true(copies != (stage_deadline_ms(st, 0) > 0));
		if (strcmp(st->name, "verify") != 0)
			assert_int_equal(stage_deadline_ms(st, UINT64_C(1) << 44), st->deadline_ms);
	}
	assert_int_equal(stage_deadline_ms(&stage_table[stage_find("copy")], UINT64_MAX), 0);
	assert_int_equal(stage_find("no such stage"), stage_count);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(verify_waits_by_the_guest),
		cmocka_unit_test(no_stage_of_the_pause_is_endless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
