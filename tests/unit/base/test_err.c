// SPDX-License-Identifier: BSD-3-Clause
// Sentences: the number comes back negative, the text is cut rather than overrun, NULL is allowed.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "err.h"

static void says_what_failed(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(err_set(&e, EINVAL, "region %s is %d bytes short", "ram", 3), -EINVAL);
	assert_int_equal(e.errnum, EINVAL);
	assert_string_equal(e.text, "region ram is 3 bytes short");
	assert_int_equal(err_sys(&e, ENOENT, "cannot open %s", "x"), -ENOENT);
	assert_string_equal(e.text, "cannot open x: No such file or directory");
	assert_int_equal(err_set(NULL, EIO, "nobody listens"), -EIO);
	assert_int_equal(err_sys(NULL, EIO, "nobody listens"), -EIO);
}

static void long_text_is_cut(void **state)
{
	struct {
		struct err e;
		char after[16];
	} s;
	char text[2 * ERR_TEXT_BYTES];

	(void)state;
	memset(&s, 0x5a, sizeof(s));
	memset(text, 't', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	err_set(&s.e, EIO, "%s", text);
	assert_int_equal(strlen(s.e.text), ERR_TEXT_BYTES - 1);
	err_sys(&s.e, EIO, "%s", text);
	assert_int_equal(strlen(s.e.text), ERR_TEXT_BYTES - 1);
	for (unsigned i = 0; i < sizeof(s.after); i++)
		assert_int_equal(s.after[i], 0x5a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_what_failed),
		cmocka_unit_test(long_text_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
