// SPDX-License-Identifier: BSD-3-Clause
// Frame headers: what is valid comes back as it went in, everything else is refused.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bits.h"
#include "codec.h"
#include "crc.h"
#include "frame.h"
#include "planted.h"
#include "seed.h"

static struct frame random_frame(struct seed *s)
{
	static const uint8_t types[] = {FRAME_CHUNK, FRAME_ZERO, FRAME_HOLE, FRAME_BARRIER,
		FRAME_ACK, FRAME_TORN, FRAME_BARRIER_ACK, FRAME_BYE};
	struct frame f = {
		.type = types[seed_below(s, sizeof(types))],
		.pass = (uint32_t)seed_next(s),
		.seq = seed_next(s),
	};

	switch (f.type) {
	case FRAME_CHUNK:
		f.region = (uint16_t)seed_next(s);
		f.chunk = (uint32_t)seed_next(s);
		f.chunks = 1;
		f.data = seed_mask(s);
		f.zero = seed_mask(s) & ~f.data;
		f.hole = seed_mask(s) & ~f.data & ~f.zero;
		if ((f.data | f.zero | f.hole) == 0)
			f.zero = 1;
		if (f.data != 0) {
			f.codec = (uint8_t)seed_below(s, CODEC_IDS);
			f.payload_bytes = bits_count(f.data) * (uint32_t)PAGE_BYTES;
			if (f.codec != CODEC_RAW)
				f.payload_bytes = 1 + (uint32_t)seed_below(s, f.payload_bytes);
			f.payload_crc = (uint32_t)seed_next(s);
		}
		break;
	case FRAME_ZERO:
	case FRAME_HOLE:
		f.region = (uint16_t)seed_next(s);
		f.chunk = (uint32_t)seed_next(s);
		f.chunks = 1 + (uint32_t)seed_below(s, FRAME_RUN_CHUNKS);
		break;
	case FRAME_BARRIER:
	case FRAME_BARRIER_ACK:
	case FRAME_BYE:
		f.data = seed_next(s);
		f.zero = seed_next(s);
		f.hole = seed_next(s);
		break;
	case FRAME_ACK:
		f.busy = (uint8_t)seed_next(s);
		break;
	default:
		break;
	}
	return f;
}

static void round_trip(void **state)
{
	struct seed s = {4};

	(void)state;
	for (unsigned round = 0; round < 20000; round++) {
		uint8_t buf[FRAME_HDR_BYTES];
		struct frame in = random_frame(&s), out;

		frame_encode(&in, buf);
		assert_int_equal(frame_decode(&out, buf), 0);
		assert_int_equal(out.type, in.type);
		assert_int_equal(out.codec, in.codec);
		assert_int_equal(out.region, in.region);
		assert_int_equal(out.pass, in.pass);
		assert_true(out.seq == in.seq);
		assert_int_equal(out.chunk, in.chunk);
		assert_int_equal(out.chunks, in.chunks);
		assert_int_equal(out.payload_bytes, in.payload_bytes);
		assert_int_equal(out.busy, in.busy);
		assert_true(out.data == in.data && out.zero == in.zero && out.hole == in.hole);
		assert_int_equal(out.payload_crc, in.payload_crc);
		assert_int_equal(out.hdr_crc, in.hdr_crc);
		assert_true(frame_sum(&out) == frame_sum(&in));
	}
}

// The picture in frame.h, byte by byte.
static void layout_is_as_documented(void **state)
{
	static const uint8_t want[60] = {0x57, 0x47, 1, 1, 4, 3, 2, 1, 0x18, 0x17, 0x16, 0x15, 0x14,
		0x13, 0x12, 0x11, 0x22, 0x21, 1, 0, 0x34, 0x33, 0x32, 0x31, 1, 0, 0, 0, 0x00, 0x10,
		0, 0, 1, 0, 0, 0, 0, 0, 0, 0x80, 2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0,
		0x44, 0x43, 0x42, 0x41};
	uint8_t buf[FRAME_HDR_BYTES];
	struct frame f = {.type = FRAME_CHUNK,
		.codec = CODEC_DEFLATE,
		.region = 0x2122,
		.pass = 0x01020304,
		.seq = UINT64_C(0x1112131415161718),
		.chunk = 0x31323334,
		.chunks = 1,
		.payload_bytes = 4096,
		.data = UINT64_C(0x8000000000000001),
		.zero = 2,
		.hole = 4,
		.payload_crc = 0x41424344};

	(void)state;
	frame_encode(&f, buf);
	assert_memory_equal(buf, want, sizeof(want));
	assert_int_equal(f.hdr_crc, crc32c(0, buf, 60));
	assert_int_equal(
		buf[60] | buf[61] << 8 | buf[62] << 16 | (uint32_t)buf[63] << 24, f.hdr_crc);
}

static void every_flipped_bit_is_refused(void **state)
{
	struct seed s = {5};

	(void)state;
	for (unsigned round = 0; round < 50; round++) {
		uint8_t buf[FRAME_HDR_BYTES];
		struct frame f = random_frame(&s), out;

		frame_encode(&f, buf);
		for (unsigned bit = 0; bit < FRAME_HDR_BYTES * 8; bit++) {
			buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
			assert_true(frame_decode(&out, buf) < 0);
			buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		assert_int_equal(frame_decode(&out, buf), 0);
	}
}

static void random_bytes_are_refused(void **state)
{
	struct seed s = {6};
	uint8_t buf[FRAME_HDR_BYTES];
	struct frame f;

	(void)state;
	for (unsigned round = 0; round < 20000; round++) {
		seed_fill(&s, buf, sizeof(buf));
		assert_true(frame_decode(&f, buf) < 0);
		buf[0] = 0x57; // past the first gates
		buf[1] = 0x47;
		buf[2] = FRAME_VERSION;
		assert_int_equal(frame_decode(&f, buf), -FRAME_BAD_CRC);
	}
}

// A peer can give any header a good checksum: the rules must hold by themselves.
static int seal_and_decode(struct frame f)
{
	uint8_t buf[FRAME_HDR_BYTES];
	struct frame out;

	frame_encode(&f, buf);
	return frame_decode(&out, buf);
}

static void rules_hold_under_good_checksums(void **state)
{
	const struct frame chunk = {
		.type = FRAME_CHUNK, .chunks = 1, .data = 3, .payload_bytes = 2 * 4096};
	const struct frame zero = {.type = FRAME_ZERO, .chunks = 9};
	struct frame f;

	(void)state;
#define REFUSE(base, bad, ...)                                                                     \
	do {                                                                                       \
		f = (base);                                                                        \
		__VA_ARGS__;                                                                       \
		assert_int_equal(seal_and_decode(f), -(bad));                                      \
	} while (0)

	assert_int_equal(seal_and_decode(chunk), 0);
	REFUSE(chunk, FRAME_BAD_MASK, f.zero = 1);
	REFUSE(chunk, FRAME_BAD_MASK, f.hole = 2);
	REFUSE(chunk, FRAME_BAD_MASK, f.zero = 4, f.hole = 4);
	REFUSE(chunk, FRAME_BAD_MASK, f.data = 0, f.payload_bytes = 0);
	REFUSE(chunk, FRAME_BAD_LENGTH, f.payload_bytes = 4096);
	REFUSE(chunk, FRAME_BAD_LENGTH, f.payload_bytes = 3 * 4096);
	REFUSE(chunk, FRAME_BAD_LENGTH, f.payload_bytes = UINT32_MAX);
	REFUSE(chunk, FRAME_BAD_LENGTH, f.codec = CODEC_DEFLATE, f.payload_bytes = 0);
	REFUSE(chunk, FRAME_BAD_LENGTH, f.codec = CODEC_DEFLATE, f.payload_bytes = 8193);
	REFUSE(chunk, FRAME_BAD_LENGTH, f.chunks = 2);
	REFUSE(chunk, FRAME_BAD_LENGTH, f.chunks = 0);
	REFUSE(chunk, FRAME_BAD_CODEC, f.codec = CODEC_IDS);
	REFUSE(chunk, FRAME_BAD_CODEC, f.codec = 255);
	REFUSE(chunk, FRAME_BAD_RESERVED, f.data = 0, f.zero = 1, f.payload_bytes = 0,
		f.payload_crc = 1);
	assert_int_equal(seal_and_decode(zero), 0);
	REFUSE(zero, FRAME_BAD_LENGTH, f.chunks = 0);
	REFUSE(zero, FRAME_BAD_LENGTH, f.chunks = FRAME_RUN_CHUNKS + 1);
	REFUSE(zero, FRAME_BAD_LENGTH, f.payload_bytes = 1);
	REFUSE(zero, FRAME_BAD_MASK, f.zero = 1);
	REFUSE(zero, FRAME_BAD_RESERVED, f.codec = 1);
	REFUSE(zero, FRAME_BAD_LENGTH, f.type = FRAME_BARRIER, f.chunks = 0, f.payload_bytes = 1);
	REFUSE(zero, FRAME_BAD_RESERVED, f.type = FRAME_BARRIER);
	REFUSE(zero, FRAME_BAD_MASK, f.type = FRAME_ACK, f.chunks = 0, f.data = 1);
	REFUSE(zero, FRAME_BAD_RESERVED, f.busy = 1);
	REFUSE(chunk, FRAME_BAD_RESERVED, f.busy = 1);
	REFUSE(zero, FRAME_BAD_RESERVED, f.type = FRAME_TORN, f.chunks = 0, f.busy = 1);
	REFUSE(zero, FRAME_BAD_TYPE, f.type = 0);
	REFUSE(zero, FRAME_BAD_TYPE, f.type = 15);
	REFUSE(zero, FRAME_BAD_TYPE, f.type = 255);
#undef REFUSE
}

static void guest_bounds_are_checked(void **state)
{
	static struct region_map map;
	struct frame f = {.type = FRAME_CHUNK, .chunks = 1, .data = 3, .payload_bytes = 8192};

	(void)state;
	region_map_init(&map);
	assert_int_equal(region_add(&map, "a", -1, 3 * CHUNK_BYTES, 4096, NULL), 0);
	assert_int_equal(region_add(&map, "b", -1, CHUNK_BYTES + PAGE_BYTES, 4096, NULL), 1);
	assert_int_equal(frame_check(&f, &map), 0);
	f.region = 2;
	assert_int_equal(frame_check(&f, &map), -FRAME_BAD_REGION);
	f.region = 1;
	f.chunk = 1;
	assert_int_equal(frame_check(&f, &map), -FRAME_BAD_MASK);
	f.data = 1;
	assert_int_equal(frame_check(&f, &map), 0);
	f.chunk = 2;
	assert_int_equal(frame_check(&f, &map), -FRAME_BAD_CHUNK);
	f = (struct frame){.type = FRAME_HOLE, .chunks = 3};
	assert_int_equal(frame_check(&f, &map), 0);
	f.chunk = 1;
	assert_int_equal(frame_check(&f, &map), -FRAME_BAD_CHUNK);
	f.chunk = UINT32_MAX;
	assert_int_equal(frame_check(&f, &map), -FRAME_BAD_CHUNK);
	f.type = FRAME_ACK;
	assert_int_equal(frame_check(&f, &map), -FRAME_BAD_TYPE);
	f.type = FRAME_BARRIER;
	assert_int_equal(frame_check(&f, &map), 0);
}

static void every_refusal_has_a_text(void **state)
{
	(void)state;
	for (int bad = FRAME_BAD_MAGIC; bad <= FRAME_BAD_ORDER; bad++) {
		assert_string_not_equal(frame_bad_text(bad), frame_bad_text(999));
		assert_ptr_equal(frame_bad_text(bad), frame_bad_text(-bad));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(layout_is_as_documented),
		cmocka_unit_test(every_flipped_bit_is_refused),
		cmocka_unit_test(random_bytes_are_refused),
		cmocka_unit_test(rules_hold_under_good_checksums),
		cmocka_unit_test(guest_bounds_are_checked),
		cmocka_unit_test(every_refusal_has_a_text),
	};

	return planted_run(tests, PLANT_LAW7_TRUST_CHUNK);
}
