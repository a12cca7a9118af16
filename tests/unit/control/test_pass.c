// SPDX-License-Identifier: BSD-3-Clause
// The pass over a sparse guest whose dirty source reports everything, as KVM does that starts with
// all bits set: holes are neither sent nor read, nor is their report taken from the source.

#include "pass.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bits.h"
#include "planted.h"

#define BYTES (UINT64_C(1) << 30)

static uint64_t armed_pages;
static bool whole; /* all of the region is populated */

static void look(void *arg, bool last)
{
	(void)arg;
	(void)last;
}

static void arm(void *arg, uint64_t first, uint64_t n)
{
	struct pass *p = arg;

	for (uint64_t c = first; c < first + n; c++)
		armed_pages += bits_count(p->in[c]);
}

static int populated(void *arg, struct region *r,
	int (*found)(void *found_arg, uint64_t offset, uint64_t bytes), void *found_arg,
	struct err *e)
{
	(void)arg;
	(void)e;
	return whole ? found(found_arg, 0, r->bytes)
		     : found(found_arg, 77 * PAGE_BYTES, PAGE_BYTES);
}

static const struct pass_io io = {look, arm, populated};

static void holes_are_left_out(void **state)
{
	struct region_map map;
	struct dirty dirty;
	struct claim claim;
	struct pass p;
	uint64_t *planes;

	(void)state;
	region_map_init(&map);
	assert_int_equal(region_add(&map, "ram", -1, BYTES, 4096, NULL), 0);
	planes = calloc(2 * map.nchunks, sizeof(*planes));
	assert_non_null(planes);
	assert_int_equal(dirty_init(&dirty, map.nchunks), 0);
	assert_int_equal(claim_init(&claim, 1), 0);
	assert_int_equal(
		pass_init(&p, &map, &dirty, &claim, planes, planes + map.nchunks, -1, &io, &p), 0);

	for (uint32_t number = 0; number < 3; number++) {
		memset(planes, 0xff, map.nchunks * sizeof(*planes));
		armed_pages = 0;
		pass_begin(&p, number, PASS_LIVE);
		pass_looked(&p, 0, NULL);
		assert_int_equal(p.state, PASS_LOOKED);
		assert_int_equal(p.facts.dirty_pages, 1);
		assert_int_equal(p.facts.skipped_pages, number == 0 ? (BYTES >> 12) - 1 : 0);
		pass_go(&p);
		assert_int_equal(armed_pages, 1);
		pass_armed(&p, 1, 1, 0, NULL);
		assert_int_equal(dirty.taken[1], UINT64_C(1) << 13);
		pass_poll(&p);
		assert_int_equal(p.state, PASS_PUBLISHED);
		assert_int_equal(pass_close(&p), 1);
	}

	/* What appears later is dirty by its report. */
	whole = true;
	memset(planes, 0xff, map.nchunks * sizeof(*planes));
	pass_begin(&p, 3, PASS_LIVE);
	pass_looked(&p, 0, NULL);
	assert_int_equal(p.facts.dirty_pages, BYTES >> 12);

	pass_fini(&p);
	claim_fini(&claim);
	dirty_fini(&dirty);
	free(planes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(holes_are_left_out)};

	return planted_run(tests, PLANT_LAW12_ARM_ALL);
}
