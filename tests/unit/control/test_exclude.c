// SPDX-License-Identifier: BSD-3-Clause
// What is left out: balloon and free pages against the pass, and the balloon's way to the target.

#include "carry.h"
#include "pass.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bits.h"
#include "seed.h"
#include "wire.h"

#define CHUNKS 8u
#define PAGES  (CHUNKS * CHUNK_PAGES)
#define ALL    UINT64_MAX

static struct stage {
	struct region_map map;
	struct dirty dirty;
	struct claim claim;
	struct pass p;
	struct exclude x;
	uint64_t planes[2 * CHUNKS], hints[2 * CHUNKS];
	uint64_t armed[CHUNKS]; /* IN words of arm() */
	unsigned arms, looks;
	uint64_t arm_first, arm_n;
	uint32_t asked;
} s;

static void io_look(void *arg, bool last)
{
	(void)arg;
	(void)last;
}

static void io_arm(void *arg, uint64_t first, uint64_t n)
{
	(void)arg;
	s.arms++;
	s.arm_first = first;
	s.arm_n = n;
	for (uint64_t c = first; c < first + n; c++)
		s.armed[c] |= s.p.in[c];
}

static int io_populated(void *arg, struct region *r,
	int (*found)(void *found_arg, uint64_t offset, uint64_t bytes), void *found_arg,
	struct err *e)
{
	(void)arg;
	(void)e;
	return found(found_arg, 0, r->bytes);
}

static void io_request(void *arg, uint32_t id)
{
	(void)arg;
	s.asked = id;
}

static void io_free_look(void *arg, uint32_t id)
{
	(void)arg;
	assert_int_equal(id, s.asked);
	s.looks++;
}

static const struct pass_io io = {io_look, io_arm, io_populated, io_request, io_free_look};

static void open_stage(uint32_t page_bytes)
{
	memset(&s, 0, sizeof(s));
	region_map_init(&s.map);
	assert_int_equal(region_add(&s.map, "ram", -1, PAGES * PAGE_BYTES, page_bytes, NULL), 0);
	assert_int_equal(dirty_init(&s.dirty, CHUNKS), 0);
	assert_int_equal(claim_init(&s.claim, 1), 0);
	assert_int_equal(exclude_init(&s.x, &s.map, s.hints, -1), 0);
	assert_int_equal(pass_init(&s.p, &s.map, &s.dirty, &s.claim, s.planes, s.planes + CHUNKS,
				 -1, &io, &s),
		0);
	s.p.x = &s.x;
}

static void close_stage(void)
{
	pass_fini(&s.p);
	exclude_fini(&s.x);
	claim_fini(&s.claim);
	dirty_fini(&s.dirty);
}

static void begin(uint32_t number)
{
	memset(s.armed, 0, sizeof(s.armed));
	s.arms = 0;
	pass_begin(&s.p, number, PASS_LIVE);
	pass_looked(&s.p, 0, NULL);
	assert_int_equal(s.p.state, PASS_LOOKED);
}

static void balloon_counts_as_holes(void **state)
{
	(void)state;
	open_stage(4096);
	s.x.use_balloon = true;
	s.hints[1] = 0xff;
	s.dirty.held[1] = 0xf; /* as if it was sent before */
	begin(0);
	assert_int_equal(s.p.facts.balloon_pages, 8);
	assert_int_equal(s.p.facts.skipped_pages, 0);
	assert_int_equal(s.p.facts.dirty_pages, PAGES - 8);
	assert_int_equal(s.dirty.set[1], ~UINT64_C(0xff));
	assert_int_equal(s.dirty.hole[1], 0xf);
	pass_go(&s.p);
	assert_int_equal(s.armed[1], ~UINT64_C(0xff)); /* nor are they armed */
	pass_armed(&s.p, s.arm_first, s.arm_n, 0, NULL);
	pass_poll(&s.p);
	pass_close(&s.p);
	/* Page 0 leaves it, and is dirty by that; page 1 was written and is still in it. */
	memset(s.dirty.set, 0, CHUNKS * 8);
	s.hints[1] = 0xfe;
	s.planes[1] = 3;
	begin(1);
	assert_int_equal(s.dirty.set[1], 1);
	assert_int_equal(exclude_all(&s.x, &s.dirty)[1], 0xfe);
	close_stage();
}

static void balloon_that_is_not_used(void **state)
{
	(void)state;
	open_stage(4096);
	s.hints[1] = 0xff;
	begin(0);
	assert_int_equal(s.p.facts.balloon_pages, 0);
	assert_int_equal(s.p.facts.dirty_pages, PAGES);
	assert_int_equal(s.x.balloon[1], 0xff); /* it is carried all the same */
	close_stage();
}

static void large_pages_whole_or_not(void **state)
{
	(void)state;
	open_stage(2u << 20);
	s.x.use_balloon = true;
	memset(s.hints, 0xff, CHUNKS * 8);
	s.hints[7] = ALL >> 1;
	begin(0);
	assert_int_equal(s.p.facts.balloon_pages, 0);
	s.hints[7] = ALL;
	begin(0);
	assert_int_equal(s.p.facts.balloon_pages, PAGES);
	close_stage();
}

/* All is armed, then the guest is asked, then windows are armed again. */
static void free_pages_after_arming(void **state)
{
	(void)state;
	open_stage(4096);
	s.x.ask_free = true;
	begin(0);
	pass_go(&s.p);
	assert_int_equal(s.arms, 1);
	assert_int_equal(s.asked, 0);
	assert_int_equal(s.armed[0] & s.armed[CHUNKS - 1], ALL);
	s.planes[2] = 1; /* arming brought it up; it is in the set anyhow */
	pass_armed(&s.p, s.arm_first, s.arm_n, 0, NULL);
	assert_int_equal(s.planes[2], 0);
	pass_poll(&s.p);
	assert_int_equal(s.asked, 1);
	assert_int_equal(s.looks, 1);
	/* All was asked for again already: too late for this small guest. */
	assert_int_equal(s.arms, 2);
	s.hints[CHUNKS + 3] = ALL;
	pass_free_looked(&s.p, 0, 64, false, NULL);
	assert_int_equal(s.p.facts.free_pages, 0);
	assert_int_equal(s.hints[CHUNKS + 3], 0);
	pass_armed(&s.p, s.arm_first, s.arm_n, 0, NULL);
	assert_int_equal(s.dirty.taken[3], ALL);
	pass_poll(&s.p);
	pass_close(&s.p);
	assert_int_equal(s.asked, 0);
	begin(1);
	pass_go(&s.p);
	assert_int_equal(s.asked, 0); /* only in pass 0 */
	close_stage();
}

/* As if chunks from 4 on had not been asked for yet. */
static void free_pages_that_come_in_time(void **state)
{
	(void)state;
	open_stage(4096);
	s.x.ask_free = true;
	begin(0);
	pass_go(&s.p);
	pass_armed(&s.p, s.arm_first, s.arm_n, 0, NULL);
	pass_poll(&s.p);
	s.p.cursor = 4;
	s.hints[CHUNKS + 3] = s.hints[CHUNKS + 4] = s.hints[CHUNKS + 5] = ALL;
	s.planes[4] = 0xf;     /* written since it was armed: used again */
	s.dirty.held[5] = 0x1; /* the target holds it: a hole there */
	pass_free_looked(&s.p, 0, 192, false, NULL);
	assert_int_equal(s.dirty.set[3], ALL);
	assert_int_equal(s.dirty.set[4], 0xf);
	assert_int_equal(s.dirty.set[5], 0);
	assert_int_equal(s.dirty.hole[5], 1);
	assert_int_equal(s.x.free_pages, 60 + 64);
	/* Written later: the next report, or look, brings it back. */
	s.hints[CHUNKS + 6] = 1;
	s.planes[4] = 0x30;
	pass_free_looked(&s.p, 0, 1, true, NULL);
	assert_int_equal(s.dirty.set[4], 0x3f);
	assert_int_equal(s.dirty.set[6], ALL - 1);
	assert_int_equal(s.x.free_pages, 58 + 64 + 1);
	assert_true(s.p.free_ended);
	/* After the barrier nothing counts. */
	s.p.state = PASS_PUBLISHED;
	s.hints[CHUNKS + 7] = ALL;
	pass_free_looked(&s.p, 0, 64, false, NULL);
	assert_int_equal(s.dirty.set[7], ALL);
	assert_int_equal(exclude_all(&s.x, &s.dirty)[4], ~UINT64_C(0x3f));
	close_stage();
}

/* The target kept what its memory held, and the frame of their hole was torn or lost. */
static void holes_of_free_pages_that_did_not_arrive(void **state)
{
	(void)state;
	open_stage(4096);
	s.x.ask_free = s.x.use_balloon = true;
	begin(0);
	s.dirty.held[5] = ALL;
	pass_go(&s.p);
	pass_armed(&s.p, s.arm_first, s.arm_n, 0, NULL);
	pass_poll(&s.p);
	s.p.cursor = 4;
	s.hints[CHUNKS + 5] = 7;
	pass_free_looked(&s.p, 0, 3, true, NULL);
	assert_int_equal(s.dirty.hole[5], 7);
	pass_close(&s.p);
	s.planes[5] = 1; /* written meanwhile */
	begin(1);
	assert_int_equal(s.dirty.hole[5], 6);
	assert_int_equal(s.dirty.set[5], ALL & ~UINT64_C(6));
	pass_close(&s.p);
	s.dirty.held[5] &= ~UINT64_C(2); /* one has arrived */
	begin(2);
	assert_int_equal(s.dirty.hole[5], 4);
	/* A digest was taken, then the network was lost: what leaves the balloon is sent. */
	s.hints[5] = 0x30;
	exclude_look(&s.x);
	assert_int_equal(exclude_all(&s.x, &s.dirty)[5], 0x36);
	pass_close(&s.p);
	s.hints[5] = 0;
	s.planes[5] = 0x30;
	begin(3);
	assert_int_equal(s.dirty.hole[5], 4);
	assert_int_equal(s.dirty.set[5] & 0x30, 0x30);
	assert_int_equal(exclude_all(&s.x, &s.dirty)[5], 6);
	close_stage();
}

static void bitmap_arrives(void **state)
{
	static uint8_t buf[CARRY_BLOB_BYTES];
	static uint64_t now[3 * CARRY_RUNS], there[3 * CARRY_RUNS];
	const uint64_t n = 3 * CARRY_RUNS;
	struct seed seed = {1};
	struct carry c;
	struct err e;

	(void)state;
	assert_int_equal(carry_init(&c, now, n), 0);
	assert_int_equal(carry_next(&c, buf), 0);
	for (unsigned round = 0; round < 20; round++) {
		unsigned blobs = 0;
		size_t bytes;

		for (uint64_t i = 0; i < n; i++)
			if (seed_below(&seed, 20) <= round)
				now[i] = seed_below(&seed, 3) ? ALL : seed_next(&seed);
		carry_look(&c, 0, n);
		while ((bytes = carry_next(&c, buf)) > 0) {
			assert_int_equal(carry_take(buf, bytes, there, n, &e), 0);
			blobs++;
		}
		assert_memory_equal(now, there, sizeof(now));
		carry_look(&c, 0, n);
		assert_int_equal(carry_next(&c, buf), 0); /* nothing changed */
		assert_true(blobs <= 4);
	}
	carry_fini(&c);
}

/* Runs that begin before the last one ended: one blob would be as much work as thousands. */
static void runs_that_overlap_are_refused(void **state)
{
	static const struct {
		uint64_t first, n, then, m;
		int want;
	} rows[] = {{0, 2, 2, 2, 0}, {0, 1, 3, 1, 0}, {0, 4, 0, 4, -EPROTO}, {0, 2, 1, 1, -EPROTO},
		{2, 1, 0, 1, -EPROTO}};
	uint8_t buf[CARRY_HEAD_BYTES + 2 * CARRY_RUN_BYTES];
	struct wire_writer w;
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t words[4] = {0};

		wire_write_init(&w, buf, sizeof(buf));
		wire_put_u32(&w, CARRY_MAGIC);
		wire_put_u32(&w, 2);
		wire_put_u64(&w, rows[i].first);
		wire_put_u64(&w, rows[i].n);
		wire_put_u64(&w, 1);
		wire_put_u64(&w, rows[i].then);
		wire_put_u64(&w, rows[i].m);
		wire_put_u64(&w, 2);
		assert_int_equal(carry_take(buf, sizeof(buf), words, 4, &e), rows[i].want);
		assert_int_equal(words[rows[i].first], 1);
		assert_int_equal(
			words[rows[i].then], rows[i].want == 0 ? 2 : words[rows[i].then] & 1);
	}
}

static void bad_bitmaps_are_refused(void **state)
{
	uint64_t words[4] = {0}, now[4] = {0, 5, 5, 0};
	uint8_t buf[CARRY_BLOB_BYTES];
	struct carry c;
	struct err e;
	size_t bytes;

	(void)state;
	assert_int_equal(carry_init(&c, now, 4), 0);
	carry_look(&c, 0, UINT64_MAX);
	bytes = carry_next(&c, buf);
	carry_fini(&c);
	assert_int_equal(bytes, CARRY_HEAD_BYTES + CARRY_RUN_BYTES);
	for (size_t cut = 0; cut < bytes; cut++)
		assert_int_equal(carry_take(buf, cut, words, 4, &e), -EPROTO);
	assert_int_equal(carry_take(buf, bytes, words, 2, &e), -EPROTO);
	buf[8] = 3; /* first chunk, of two */
	assert_int_equal(carry_take(buf, bytes, words, 4, &e), -EPROTO);
	memset(buf + 8, 0xff, 16);
	assert_int_equal(carry_take(buf, bytes, words, 4, &e), -EPROTO);
	buf[0] ^= 1;
	assert_int_equal(carry_take(buf, bytes, words, 4, &e), -EPROTO);
	assert_int_equal(words[0] | words[1] | words[2] | words[3], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(balloon_counts_as_holes),
		cmocka_unit_test(balloon_that_is_not_used),
		cmocka_unit_test(large_pages_whole_or_not),
		cmocka_unit_test(free_pages_after_arming),
		cmocka_unit_test(free_pages_that_come_in_time),
		cmocka_unit_test(holes_of_free_pages_that_did_not_arrive),
		cmocka_unit_test(bitmap_arrives),
		cmocka_unit_test(runs_that_overlap_are_refused),
		cmocka_unit_test(bad_bitmaps_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
