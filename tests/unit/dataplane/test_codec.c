// SPDX-License-Identifier: BSD-3-Clause
// Codecs: round trips over content classes, garbage, cut and lengthened input; nothing is touched
// outside the buffers, which end at pages that can't be accessed.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>
#include <errno.h>

#include "codec.h"
#include "region.h"
#include "seed.h"

// A buffer whose last byte is followed by a page that faults; the library's assembler is not seen
// by sanitizers.
struct guarded {
	uint8_t *map;
	uint8_t *end;
};

static struct guarded guarded_new(void)
{
	size_t bytes = 2 * CHUNK_BYTES;
	struct guarded g;

	g.map = mmap(NULL, bytes + PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		-1, 0);
	assert_true(g.map != MAP_FAILED);
	g.end = g.map + bytes;
	assert_int_equal(mprotect(g.end, PAGE_BYTES, PROT_NONE), 0);
	return g;
}

static void guarded_free(struct guarded *g)
{
	munmap(g->map, 2 * CHUNK_BYTES + PAGE_BYTES);
}

enum content { ZEROS, TEXT, STRUCTS, RANDOM, CONTENTS };

static void fill(struct seed *s, enum content c, uint8_t *p, size_t bytes)
{
	static const char words[] = "the godwit flies eleven days over the sea without landing ";

	memset(p, 0, bytes);
	for (size_t i = 0; i < bytes; i++) {
		if (c == TEXT)
			p[i] = (uint8_t)words[(i + seed_below(s, 3)) % (sizeof(words) - 1)];
		else if (c == STRUCTS && i % 16 < 3)
			p[i] = (uint8_t)seed_next(s);
		else if (c == RANDOM)
			p[i] = (uint8_t)seed_next(s);
	}
}

static void round_trips(void **state)
{
	struct seed s = {9};
	struct guarded in = guarded_new(), out = guarded_new(), back = guarded_new();

	(void)state;
	for (int level = codec_isal.level_min; level <= codec_isal.level_max; level++) {
		struct codec *c;

		assert_int_equal(codec_isal.open(&c, level, -1, NULL), 0);
		assert_int_equal(c->level, level);
		for (unsigned round = 0; round < 40; round++) {
			size_t bytes = (1 + seed_below(&s, CHUNK_PAGES)) * PAGE_BYTES;
			enum content class = (enum content)(round % CONTENTS);
			uint8_t *from = in.end - bytes;
			size_t n;

			fill(&s, class, from, bytes);
			// A copy of the output at the very end of its buffer: decode may not read
			// on.
			n = codec_isal.encode(c, from, bytes, out.map, bytes);
			if (class == RANDOM) {
				assert_int_equal(n, 0);
				continue;
			}
			assert_true(n > 0 && n < bytes);
			memmove(out.end - n, out.map, n);
			memset(back.end - bytes, 0xa5, bytes);
			assert_int_equal(
				codec_isal.decode(c, out.end - n, n, back.end - bytes, bytes), 0);
			assert_memory_equal(back.end - bytes, from, bytes);
		}
		codec_isal.close(c);
	}
	guarded_free(&in);
	guarded_free(&out);
	guarded_free(&back);
}

// The limit is a limit: with the output at the end of its buffer, each size either fits or is
// refused.
static void encode_keeps_its_limit(void **state)
{
	struct seed s = {10};
	struct guarded in = guarded_new(), out = guarded_new();

	(void)state;
	for (int level = 0; level <= 3; level++) {
		struct codec *c;
		size_t full;

		assert_int_equal(codec_isal.open(&c, level, -1, NULL), 0);
		fill(&s, STRUCTS, in.end - 2 * PAGE_BYTES, 2 * PAGE_BYTES);
		full = codec_isal.encode(
			c, in.end - 2 * PAGE_BYTES, 2 * PAGE_BYTES, out.map, CHUNK_BYTES);
		assert_true(full > 0);
		for (size_t limit = 0; limit < full + 40; limit++) {
			size_t n = codec_isal.encode(
				c, in.end - 2 * PAGE_BYTES, 2 * PAGE_BYTES, out.end - limit, limit);

			assert_true(n < limit || n == 0);
			// The library wants some room at the end; it may refuse a fit so tight.
			if (limit > full + 32)
				assert_true(n > 0);
		}
		codec_isal.close(c);
	}
	guarded_free(&in);
	guarded_free(&out);
}

static void decode_refuses_other_lengths(void **state)
{
	struct seed s = {11};
	struct guarded in = guarded_new(), out = guarded_new(), back = guarded_new();
	const size_t bytes = 4 * PAGE_BYTES;
	struct codec *c;
	size_t n;

	(void)state;
	assert_int_equal(codec_isal.open(&c, 1, -1, NULL), 0);
	fill(&s, STRUCTS, in.end - bytes, bytes);
	n = codec_isal.encode(c, in.end - bytes, bytes, out.map, bytes);
	assert_true(n > 16);
	for (size_t cut = 0; cut < n; cut++) {
		memmove(out.end - cut, out.map, cut);
		assert_int_equal(codec_isal.decode(c, out.end - cut, cut, back.end - bytes, bytes),
			-EBADMSG);
	}
	// Longer than it should be, by one and by many.
	for (size_t more = 1; more <= 64; more *= 4) {
		memset(out.end - more, 0, more);
		memmove(out.end - more - n, out.map, n);
		assert_int_equal(
			codec_isal.decode(c, out.end - more - n, n + more, back.end - bytes, bytes),
			-EBADMSG);
	}
	// Good input, other output lengths.
	memmove(out.end - n, out.map, n);
	for (size_t other = 0; other <= 2 * bytes; other += PAGE_BYTES) {
		int rc = codec_isal.decode(c, out.end - n, n, back.end - other, other);

		assert_int_equal(rc, other == bytes ? 0 : -EBADMSG);
	}
	assert_int_equal(
		codec_isal.decode(c, out.end - n, n, back.end - bytes + 1, bytes - 1), -EBADMSG);
	codec_isal.close(c);
	guarded_free(&in);
	guarded_free(&out);
	guarded_free(&back);
}

// Random bytes, and good streams with bits flipped: any answer but a step outside.
static void garbage_does_no_harm(void **state)
{
	struct seed s = {12};
	struct guarded in = guarded_new(), out = guarded_new(), back = guarded_new();
	const size_t bytes = 8 * PAGE_BYTES;
	struct codec *c;

	(void)state;
	assert_int_equal(codec_isal.open(&c, 2, -1, NULL), 0);
	for (unsigned round = 0; round < 3000; round++) {
		size_t n;
		uint8_t *at;

		if (round % 2 == 0) {
			n = 1 + seed_below(&s, 4 * PAGE_BYTES);
			at = out.end - n;
			seed_fill(&s, at, n < 512 ? n : 512);
		} else {
			fill(&s, STRUCTS, in.end - 2 * PAGE_BYTES, 2 * PAGE_BYTES);
			n = codec_isal.encode(
				c, in.end - 2 * PAGE_BYTES, 2 * PAGE_BYTES, out.map, CHUNK_BYTES);
			at = out.end - n;
			memmove(at, out.map, n);
			for (unsigned flips = 0; flips < 3; flips++)
				at[seed_below(&s, n)] ^= (uint8_t)(1u << seed_below(&s, 8));
		}
		(void)codec_isal.decode(c, at, n, back.end - bytes, bytes);
	}
	codec_isal.close(c);
	guarded_free(&in);
	guarded_free(&out);
	guarded_free(&back);
}

static void names_are_parsed(void **state)
{
	static const char *const bad[] = {"", "zstd", "deflat", "deflate:", "deflate:4",
		"deflate:-1", "deflate: 1", "deflate:1x", "deflate:99999999999999999999", "raw:0",
		"raw:", "RAW", "deflate:+1", ":1"};
	const struct codec_ops *ops;
	struct err e;
	int level;

	(void)state;
	assert_int_equal(codec_parse("raw", &ops, &level, &e), 0);
	assert_ptr_equal(ops, &codec_raw);
	assert_int_equal(codec_parse("deflate", &ops, &level, &e), 0);
	assert_ptr_equal(ops, &codec_isal);
	assert_int_equal(level, codec_isal.level_default);
	assert_int_equal(codec_parse("deflate:3", &ops, &level, &e), 0);
	assert_int_equal(level, 3);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(&e, 0, sizeof(e));
		assert_int_equal(codec_parse(bad[i], &ops, &level, &e), -EINVAL);
		assert_true(strlen(e.text) > 0);
	}
}

static void table_is_sound(void **state)
{
	unsigned n = 0;

	(void)state;
	for (const struct codec_ops *const *c = codec_table; *c != NULL; c++, n++) {
		struct codec *codec = NULL;

		assert_ptr_equal(codec_by_name((*c)->name), *c);
		assert_ptr_equal(codec_by_id((*c)->id), *c);
		assert_int_equal((*c)->open(&codec, (*c)->level_default, 0, NULL), 0);
		assert_ptr_equal(codec->ops, *c);
		(*c)->close(codec);
		(*c)->close(NULL);
	}
	assert_int_equal(n, CODEC_IDS);
	assert_ptr_equal(codec_table[0], &codec_raw);
	assert_null(codec_by_name("none"));
	assert_null(codec_by_id(200));
	assert_int_equal(codec_isal.open(&(struct codec *){NULL}, 4, -1, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trips),
		cmocka_unit_test(encode_keeps_its_limit),
		cmocka_unit_test(decode_refuses_other_lengths),
		cmocka_unit_test(garbage_does_no_harm),
		cmocka_unit_test(names_are_parsed),
		cmocka_unit_test(table_is_sound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
