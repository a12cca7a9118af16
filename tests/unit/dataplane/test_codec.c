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

static void one_codec(const struct codec_ops *row, int level, struct seed *s,
	void (*test)(struct codec *c, struct seed *s))
{
	struct codec *c;

	assert_int_equal(row->open(&c, level, -1, NULL), 0);
	assert_int_equal(c->level, level);
	test(c, s);
	row->close(c);
}

// Calls test() with each row that encodes, at each of its levels, and at that of lz4 which auto
// uses.
static void each_codec(void (*test)(struct codec *c, struct seed *s))
{
	struct seed s = {9};

	for (const struct codec_ops *const *row = codec_table; *row != NULL; row++)
		for (int level = (*row)->level_min;
			(*row)->encode != NULL && level <= (*row)->level_max; level++)
			one_codec(*row, level, &s, test);
	one_codec(&codec_lz4, 8, &s, test);
}

static struct guarded in, out, back;

static int setup(void **state)
{
	(void)state;
	in = guarded_new();
	out = guarded_new();
	back = guarded_new();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	guarded_free(&in);
	guarded_free(&out);
	guarded_free(&back);
	return 0;
}

static void round_trip(struct codec *c, struct seed *s)
{
	for (unsigned round = 0; round < 20; round++) {
		size_t bytes = (1 + seed_below(s, CHUNK_PAGES)) * PAGE_BYTES;
		enum content class = (enum content)(round % CONTENTS);
		uint8_t *from = in.end - bytes;
		size_t n;

		fill(s, class, from, bytes);
		n = c->ops->encode(c, from, bytes, out.map, bytes);
		if (class == RANDOM) {
			assert_int_equal(n, 0);
			continue;
		}
		assert_true(n > 0 && n < bytes);
		// A copy of the output at the very end of its buffer: decode may not read on.
		memmove(out.end - n, out.map, n);
		memset(back.end - bytes, 0xa5, bytes);
		assert_int_equal(c->ops->decode(c, out.end - n, n, back.end - bytes, bytes), 0);
		assert_memory_equal(back.end - bytes, from, bytes);
	}
}

static void round_trips(void **state)
{
	(void)state;
	each_codec(round_trip);
}

// The limit is a limit: with the output at the end of its buffer, each size either fits or is
// refused.
static void encode_at_limits(struct codec *c, struct seed *s)
{
	const size_t bytes = 2 * PAGE_BYTES;
	size_t full;

	fill(s, STRUCTS, in.end - bytes, bytes);
	full = c->ops->encode(c, in.end - bytes, bytes, out.map, CHUNK_BYTES);
	assert_true(full > 0);
	for (size_t limit = 0; limit < full + 40; limit += limit + 64 < full ? 37 : 1) {
		size_t n = c->ops->encode(c, in.end - bytes, bytes, out.end - limit, limit);

		assert_true(n < limit || n == 0);
		// A library wants some room at the end; it may refuse a fit so tight.
		if (limit > full + 32)
			assert_true(n > 0);
	}
}

static void encode_keeps_its_limit(void **state)
{
	(void)state;
	each_codec(encode_at_limits);
}

static void decode_other_lengths(struct codec *c, struct seed *s)
{
	const size_t bytes = 4 * PAGE_BYTES;
	size_t n;

	fill(s, STRUCTS, in.end - bytes, bytes);
	n = c->ops->encode(c, in.end - bytes, bytes, out.map, bytes);
	assert_true(n > 16);
	for (size_t cut = 0; cut<n; cut += cut> 64 && cut + 64 < n ? 7 : 1) {
		memmove(out.end - cut, out.map, cut);
		assert_int_equal(
			c->ops->decode(c, out.end - cut, cut, back.end - bytes, bytes), -EBADMSG);
	}
	// Longer than it should be, by one and by many.
	for (size_t more = 1; more <= 64; more *= 4) {
		memset(out.end - more, 0, more);
		memmove(out.end - more - n, out.map, n);
		assert_int_equal(
			c->ops->decode(c, out.end - more - n, n + more, back.end - bytes, bytes),
			-EBADMSG);
	}
	// Good input, other output lengths.
	memmove(out.end - n, out.map, n);
	for (size_t other = 0; other <= 2 * bytes; other += PAGE_BYTES) {
		int rc = c->ops->decode(c, out.end - n, n, back.end - other, other);

		assert_int_equal(rc, other == bytes ? 0 : -EBADMSG);
	}
	assert_int_equal(
		c->ops->decode(c, out.end - n, n, back.end - bytes + 1, bytes - 1), -EBADMSG);
}

static void decode_refuses_other_lengths(void **state)
{
	(void)state;
	each_codec(decode_other_lengths);
}

// Random bytes, and good streams with bits flipped: any answer but a step outside.
static void decode_garbage(struct codec *c, struct seed *s)
{
	const size_t bytes = 8 * PAGE_BYTES;

	for (unsigned round = 0; round < 300; round++) {
		size_t n;
		uint8_t *at;

		if (round % 2 == 0) {
			n = 1 + seed_below(s, 4 * PAGE_BYTES);
			at = out.end - n;
			seed_fill(s, at, n < 512 ? n : 512);
		} else {
			fill(s, round % 4 == 1 ? STRUCTS : TEXT, in.end - bytes, bytes);
			n = c->ops->encode(c, in.end - bytes, bytes, out.map, CHUNK_BYTES);
			at = out.end - n;
			memmove(at, out.map, n);
			for (unsigned flips = 0; flips < 3; flips++)
				at[seed_below(s, n)] ^= (uint8_t)(1u << seed_below(s, 8));
		}
		(void)c->ops->decode(c, at, n, back.end - bytes, bytes);
	}
}

static void garbage_does_no_harm(void **state)
{
	(void)state;
	each_codec(decode_garbage);
}

// One row's frames are not another's; and zstd takes one frame of today's format and no more.
static void other_streams_are_refused(void **state)
{
	const size_t bytes = PAGE_BYTES;
	struct codec *c[CODEC_IDS] = {NULL};
	struct seed s = {13};

	(void)state;
	for (uint8_t i = 1; i < CODEC_IDS; i++)
		assert_int_equal(codec_by_id(i)->open(&c[i], 1, -1, NULL), 0);
	fill(&s, STRUCTS, in.end - bytes, bytes);
	for (uint8_t i = 1; i < CODEC_IDS; i++) {
		size_t n = c[i]->ops->encode(c[i], in.end - bytes, bytes, out.map, bytes);

		memmove(out.end - n, out.map, n);
		for (uint8_t k = 1; k < CODEC_IDS; k++)
			assert_int_equal(
				c[k]->ops->decode(c[k], out.end - n, n, back.end - bytes, bytes),
				k == i ? 0 : -EBADMSG);
		if (i != CODEC_ZSTD)
			continue;
		// A skippable frame (RFC 8878, 3.1.2) of no bytes before it, and behind it.
		memcpy(out.end - n - 8, "\x50\x2a\x4d\x18\0\0\0\0", 8);
		assert_int_equal(
			c[i]->ops->decode(c[i], out.end - n - 8, n + 8, back.end - bytes, bytes),
			-EBADMSG);
		memmove(out.end - n - 8, out.map, n);
		memcpy(out.end - 8, "\x50\x2a\x4d\x18\0\0\0\0", 8);
		assert_int_equal(
			c[i]->ops->decode(c[i], out.end - n - 8, n + 8, back.end - bytes, bytes),
			-EBADMSG);
	}
	for (uint8_t i = 1; i < CODEC_IDS; i++)
		c[i]->ops->close(c[i]);
}

// Polling cores run them: nothing is allocated between open and close.
#if defined(__SANITIZE_ADDRESS__) || defined(__clang__)
#define OWN_ALLOCATOR 0 // the sanitizer has it, or may have
#else
#define OWN_ALLOCATOR 1
#endif

#if OWN_ALLOCATOR
void *__libc_malloc(size_t n);
static unsigned long mallocs;

void *malloc(size_t n)
{
	mallocs++;
	return __libc_malloc(n);
}

static void encode_and_decode(struct codec *c, struct seed *s)
{
	const size_t bytes = CHUNK_BYTES;
	unsigned long before = mallocs;
	size_t n;

	for (enum content class = 0; class < CONTENTS; class ++) {
		fill(s, class, in.end - bytes, bytes);
		n = c->ops->encode(c, in.end - bytes, bytes, out.map, CHUNK_BYTES);
		if (n > 0 && c->ops->decode(c, out.map, n, back.map, bytes) != 0)
			abort();
		(void)c->ops->decode(c, in.end - bytes, bytes, back.map, bytes);
	}
	before = mallocs - before;
	assert_int_equal(before, 0);
}
#else
static void encode_and_decode(struct codec *c, struct seed *s)
{
	(void)c;
	(void)s;
}
#endif

static void nothing_is_allocated(void **state)
{
	(void)state;
	each_codec(encode_and_decode);
}

static void names_are_parsed(void **state)
{
	static const char *const bad[] = {"", "zip", "deflat", "deflate:", "deflate:4",
		"deflate:-1", "deflate: 1", "deflate:1x", "deflate:99999999999999999999", "raw:0",
		"raw:", "RAW", "deflate:+1", ":1", "lz4:1", "lz", "zstd:0", "zstd:10",
		"zstd:", "auto:1"};
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
	assert_int_equal(codec_parse("auto", &ops, &level, &e), 0);
	assert_ptr_equal(ops, &codec_auto);
	assert_null(codec_by_name("auto"));
	assert_null(codec_by_id(codec_auto.id));
	assert_int_equal(codec_parse("lz4", &ops, &level, &e), 0);
	assert_ptr_equal(ops, &codec_lz4);
	assert_int_equal(codec_parse("zstd", &ops, &level, &e), 0);
	assert_ptr_equal(ops, &codec_zstd);
	assert_int_equal(level, 1);
	assert_int_equal(codec_parse("zstd:9", &ops, &level, &e), 0);
	assert_int_equal(level, 9);
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
	assert_int_equal(codec_zstd.open(&(struct codec *){NULL}, 0, -1, NULL), -EINVAL);
	assert_int_equal(codec_zstd.open(&(struct codec *){NULL}, 10, -1, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trips),
		cmocka_unit_test(encode_keeps_its_limit),
		cmocka_unit_test(decode_refuses_other_lengths),
		cmocka_unit_test(garbage_does_no_harm),
		cmocka_unit_test(other_streams_are_refused),
		cmocka_unit_test(nothing_is_allocated),
		cmocka_unit_test(names_are_parsed),
		cmocka_unit_test(table_is_sound),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
