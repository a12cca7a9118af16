// SPDX-License-Identifier: BSD-3-Clause
// CRC32C: the vectors of RFC 3720 B.4, and sums that continue.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crc.h"
#include "seed.h"

static void rfc3720_vectors(void **state)
{
	static const uint8_t read_pdu[48] = {0x01,
		0xc0, [16] = 0x14, [22] = 0x04, [27] = 0x14, [31] = 0x18, [32] = 0x28, [40] = 0x02};
	uint8_t buf[32];

	(void)state;
	memset(buf, 0, sizeof(buf));
	assert_int_equal(crc32c(0, buf, sizeof(buf)), 0x8a9136aa);
	memset(buf, 0xff, sizeof(buf));
	assert_int_equal(crc32c(0, buf, sizeof(buf)), 0x62a8ab43);
	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)i;
	assert_int_equal(crc32c(0, buf, sizeof(buf)), 0x46dd794e);
	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(31 - i);
	assert_int_equal(crc32c(0, buf, sizeof(buf)), 0x113fdb5c);
	assert_int_equal(crc32c(0, read_pdu, sizeof(read_pdu)), 0xd9963a56);
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(0, "", 0), 0);
}

// One bit at a time.
static uint32_t naive(uint32_t crc, const uint8_t *p, size_t n)
{
	crc = ~crc;
	while (n-- > 0) {
		crc ^= *p++;
		for (unsigned bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

static void equals_naive_and_continues(void **state)
{
	enum { BYTES = 5000 };
	struct seed s = {7};
	uint8_t *buf = malloc(BYTES);

	(void)state;
	assert_non_null(buf);
	seed_fill(&s, buf, BYTES);
	for (unsigned round = 0; round < 500; round++) {
		size_t from = seed_below(&s, BYTES);
		size_t n = seed_below(&s, BYTES - from + 1);
		size_t cut = seed_below(&s, n + 1);
		uint32_t want = naive(0, buf + from, n);

		assert_int_equal(crc32c(0, buf + from, n), want);
		assert_int_equal(
			crc32c(crc32c(0, buf + from, cut), buf + from + cut, n - cut), want);
	}
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rfc3720_vectors),
		cmocka_unit_test(equals_naive_and_continues),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
