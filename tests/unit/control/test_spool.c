// SPDX-License-Identifier: BSD-3-Clause
// Device state that is awaited: how much of it there may be, of one guest and of all; what comes is
// what was announced.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "crc.h"
#include "spool.h"

#define MOST (SPOOL_ALL_MAX / SPOOL_BYTES_MAX)

static void has_limits(void **state)
{
	struct spool *s;
	struct err e;

	(void)state;
	assert_int_equal(spool_new(&s, 0, 0, &e), -EPROTO);
	assert_int_equal(spool_new(&s, SPOOL_BYTES_MAX + 1, 0, &e), -EPROTO);
	assert_int_equal(spool_new(&s, UINT64_MAX, 0, &e), -EPROTO);
}

// Announced by many sessions at once: what is too much is refused with the reason, those that are
// there go on, and there is room again when one is gone.
static void all_have_a_limit(void **state)
{
	struct spool *s[MOST], *more;
	struct err e;

	(void)state;
	for (unsigned turn = 0; turn < 2; turn++) {
		for (unsigned i = 0; i < MOST; i++)
			assert_int_equal(spool_new(&s[i], SPOOL_BYTES_MAX, 0, &e), 0);
		assert_int_equal(spool_new(&more, 1, 0, &e), -EBUSY);
		assert_non_null(strstr(e.text, "4096 MiB at a time"));
		assert_int_equal(spool_add(s[0], (const uint8_t *)"x", 1, &e), 0);
		spool_free(s[0]);
		assert_int_equal(spool_new(&s[0], SPOOL_BYTES_MAX - 1, 0, &e), 0);
		assert_int_equal(spool_new(&more, 2, 0, &e), -EBUSY);
		assert_int_equal(spool_new(&more, 1, 0, &e), 0);
		spool_free(more);
		for (unsigned i = 0; i < MOST; i++)
			spool_free(s[i]);
	}
	spool_free(NULL);
}

static void is_what_was_announced(void **state)
{
	static const uint8_t data[] = "device state";
	struct spool *s;
	struct err e;

	(void)state;
	for (unsigned good = 0; good < 2; good++) {
		uint32_t crc = crc32c(0, data, sizeof(data));

		assert_int_equal(spool_new(&s, sizeof(data), good ? crc : ~crc, &e), 0);
		assert_int_equal(spool_add(s, data, 5, &e), 0);
		assert_false(spool_full(s));
		assert_int_equal(spool_add(s, data + 5, sizeof(data) - 4, &e), -EPROTO);
		assert_int_equal(spool_add(s, data + 5, sizeof(data) - 5, &e), 0);
		assert_true(spool_full(s));
		assert_int_equal(spool_check(s, &e), good ? 0 : -EBADMSG);
		spool_free(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(has_limits),
		cmocka_unit_test(all_have_a_limit),
		cmocka_unit_test(is_what_was_announced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
