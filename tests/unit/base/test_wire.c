// SPDX-License-Identifier: BSD-3-Clause
// The bounded reader and writer: nothing is read or written outside the buffer, whatever is asked
// for, and going past the end is never forgotten.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire.h"

static void fields_are_little_endian(void **state)
{
	static const uint8_t want[] = {
		1, 3, 2, 7, 6, 5, 4, 15, 14, 13, 12, 11, 10, 9, 8, 'h', 'i', 0, 0};
	uint8_t buf[sizeof(want)];
	char text[4];
	struct wire_writer w;
	struct wire_reader r;

	(void)state;
	wire_write_init(&w, buf, sizeof(buf));
	wire_put_u8(&w, 1);
	wire_put_u16(&w, 0x0203);
	wire_put_u32(&w, 0x04050607);
	wire_put_u64(&w, UINT64_C(0x08090a0b0c0d0e0f));
	wire_put_text(&w, "hi", 4);
	assert_false(w.bad);
	assert_int_equal(wire_len(&w, buf), sizeof(want));
	assert_memory_equal(buf, want, sizeof(want));

	wire_read_init(&r, buf, sizeof(buf));
	assert_int_equal(wire_u8(&r), 1);
	assert_int_equal(wire_u16(&r), 0x0203);
	assert_int_equal(wire_u32(&r), 0x04050607);
	assert_true(wire_u64(&r) == UINT64_C(0x08090a0b0c0d0e0f));
	assert_false(wire_done(&r));
	wire_text(&r, text, sizeof(text));
	assert_string_equal(text, "hi");
	assert_true(wire_done(&r));
}

// Every length of input, each field in turn; the buffer is exactly as long as it says, so that a
// sanitizer sees any step outside.
static void reader_stays_inside(void **state)
{
	(void)state;
	for (size_t len = 0; len < 15; len++) {
		uint8_t *buf = malloc(len > 0 ? len : 1);
		struct wire_reader r;

		assert_non_null(buf);
		memset(buf, 0xff, len);
		wire_read_init(&r, buf, len);
		assert_int_equal(wire_u8(&r), len >= 1 ? 0xff : 0);
		assert_int_equal(wire_u16(&r), len >= 3 ? 0xffff : 0);
		assert_int_equal(wire_u32(&r), len >= 7 ? UINT32_MAX : 0);
		assert_true(wire_u64(&r) == 0);
		assert_false(wire_ok(&r));
		assert_false(wire_done(&r));
		// Bad for good, even if what is left would do.
		assert_int_equal(wire_u8(&r), 0);
		assert_false(wire_ok(&r));
		free(buf);
	}
}

static void huge_lengths_do_not_wrap(void **state)
{
	uint8_t buf[8] = {0};
	struct wire_writer w;

	(void)state;
	wire_write_init(&w, buf, sizeof(buf));
	wire_put_bytes(&w, buf, SIZE_MAX);
	assert_true(w.bad);
	assert_int_equal(wire_len(&w, buf), 0);
	wire_put_u8(&w, 1);
	assert_int_equal(wire_len(&w, buf), 0);
}

static void writer_stays_inside(void **state)
{
	(void)state;
	for (size_t len = 0; len < 12; len++) {
		uint8_t buf[16];
		struct wire_writer w;

		memset(buf, 0xee, sizeof(buf));
		wire_write_init(&w, buf, len);
		wire_put_u64(&w, 0);
		wire_put_u32(&w, 0);
		assert_true(w.bad);
		for (size_t i = len; i < sizeof(buf); i++)
			assert_int_equal(buf[i], 0xee);
	}
}

static void text_is_cut_and_ended(void **state)
{
	uint8_t buf[4];
	char text[4];
	struct wire_writer w;
	struct wire_reader r;

	(void)state;
	wire_write_init(&w, buf, sizeof(buf));
	wire_put_text(&w, "godwit", 4);
	assert_memory_equal(buf, "god", 4);
	memset(buf, 'x', sizeof(buf));
	wire_read_init(&r, buf, sizeof(buf));
	wire_text(&r, text, sizeof(text));
	assert_string_equal(text, "xxx");
	wire_text(&r, text, sizeof(text));
	assert_string_equal(text, "");
	assert_false(wire_ok(&r));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_are_little_endian),
		cmocka_unit_test(reader_stays_inside),
		cmocka_unit_test(huge_lengths_do_not_wrap),
		cmocka_unit_test(writer_stays_inside),
		cmocka_unit_test(text_is_cut_and_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
