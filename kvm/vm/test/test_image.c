// SPDX-License-Identifier: BSD-3-Clause
// The seeded content, the layout and the options: pure functions.

#include "../image.h"
#include "../layout.h"
#include "../option.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t sum(const uint8_t *p, size_t n)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return h;
}

// These numbers are the format: other hosts and builds make the same bytes.
static void same_everywhere(void **state)
{
	static const uint64_t want[] = {UINT64_C(0xb93a0c83ce3b6325), UINT64_C(0x9a6d3e49617b93f0),
		UINT64_C(0xa0be9b5c2541f4fc), UINT64_C(0x776c1479838824ca),
		UINT64_C(0x7203da01cada900d)};
	uint8_t page[4096];

	(void)state;
	for (unsigned c = IMAGE_ZERO; c <= IMAGE_HEAP; c++) {
		memset(page, 1, sizeof(page));
		image_page((enum image_class)c, 42, 12345, page);
		assert_int_equal(sum(page, sizeof(page)), want[c]);
	}
}

static void plan_is_exact(void **state)
{
	struct image_run runs[IMAGE_RUNS];

	(void)state;
	for (uint64_t seed = 0; seed < 50; seed++) {
		for (unsigned populate = 0; populate <= 100; populate += 25) {
			struct image im = {IMAGE_MIX, seed, populate};
			uint64_t b = seed * 3, at = b * IMAGE_BLOCK, there = 0,
				 pages[IMAGE_MIX] = {0};
			unsigned n = image_plan(&im, b, runs);

			assert_true(n <= IMAGE_RUNS);
			for (unsigned i = 0; i < n; i++) {
				assert_int_equal(runs[i].first, at);
				assert_in_range(runs[i].pages, IMAGE_RUN_MIN, IMAGE_RUN_MAX);
				at += runs[i].pages;
				pages[runs[i].class] += runs[i].pages;
				there += runs[i].hole ? 0 : runs[i].pages;
			}
			assert_int_equal(at, (b + 1) * IMAGE_BLOCK);
			assert_int_equal(pages[IMAGE_ZERO], IMAGE_BLOCK / 2);
			assert_int_equal(pages[IMAGE_BINARY], IMAGE_BLOCK * 35 / 100);
			assert_int_equal(pages[IMAGE_TEXT], IMAGE_BLOCK / 10);
			assert_int_equal(pages[IMAGE_RANDOM], IMAGE_BLOCK / 20);
			assert_true(labs((long)there - (long)(IMAGE_BLOCK * populate / 100)) <=
				    (long)IMAGE_RUN_MAX);
		}
	}
}

// Any part, filled alone, is the same as that part of the whole.
static void parts_make_the_whole(void **state)
{
	enum { PAGES = 2 * IMAGE_BLOCK };
	const size_t bytes = (size_t)PAGES * 4096;
	uint8_t *whole = calloc(1, bytes), *parts = calloc(1, bytes);
	struct image im = {IMAGE_MIX, 3, 60};

	(void)state;
	image_fill(&im, 1000, PAGES, whole);
	for (uint64_t at = 0; at < PAGES; at += 777) {
		uint64_t n = at + 777 > PAGES ? PAGES - at : 777;

		image_fill(&im, 1000 + at, n, parts + at * 4096);
	}
	assert_memory_equal(whole, parts, bytes);
	free(whole);
	free(parts);
}

static void layout_holds(void **state)
{
	static const uint64_t sizes[] = {8u << 20, 10u << 20, 64u << 20, UINT64_C(1) << 30,
		UINT64_C(7) << 30, UINT64_C(1) << 40};

	(void)state;
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct layout l;
		struct params p = {0};
		struct err e;
		unsigned file;
		uint64_t offset;

		assert_int_equal(layout_make(&l, sizes[i], UINT64_C(2) << 40, 3, &e), 0);
		layout_params(&l, &p);
		assert_true(l.work_offset < l.low_bytes && l.low_bytes < l.used_bytes);
		assert_true(p.n_low < p.n_ram && p.n_ram < p.n_total);
		assert_true(p.alias_first + p.alias_n < p.n_low && p.alias_n > 0);
		assert_int_equal(layout_find(&l, guest_gpa(&p, 0), &file, &offset), 0);
		assert_int_equal(offset, l.work_offset);
		assert_int_equal(layout_find(&l, guest_gpa(&p, p.n_low), &file, &offset), 0);
		assert_int_equal(offset, l.low_bytes);
		assert_int_equal(guest_gpa(&p, p.n_low), GUEST_HIGH);
		assert_int_equal(layout_find(&l, guest_gpa(&p, p.n_ram - 1), &file, &offset), 0);
		assert_int_equal(offset, l.used_bytes - GUEST_PAGE);
		assert_int_equal(layout_find(&l, guest_gpa(&p, p.n_total - 1), &file, &offset), 0);
		assert_int_equal(file, LAYOUT_BIOS);
		assert_int_equal(offset, (LAYOUT_BIOS_LAST - 1) * GUEST_PAGE);
		assert_true(layout_find(&l, GUEST_BIOS - 1, &file, &offset) < 0);
		assert_int_not_equal(l.slots[3].offset % (64 * GUEST_PAGE), 0);
	}
}

static void options_are_checked(void **state)
{
	static const struct {
		const char *arg[3];
		int rc;
	} cases[] = {
		{{"--memory", "1G", NULL}, 0},
		{{"--memory", "-1", NULL}, -1},
		{{"--memory", "1X", NULL}, -1},
		{{"--memory", "99999999999999T", NULL}, -1},
		{{"--vcpus", "0", NULL}, -1},
		{{"--vcpus", "65", NULL}, -1},
		{{"--pattern", "odd", NULL}, -1},
		{{"--share", "101", NULL}, -1},
		{{"--content", "text", NULL}, 0},
		{{"--rate", "", NULL}, -1},
		{{"--ring", "300", NULL}, -1},
		{{"--report", "full,", NULL}, -1},
		{{"--name", "", NULL}, -1},
		{{"--soft=1", NULL}, -1},
		{{"--incoming", NULL, NULL}, -1},
		{{"--bogus", NULL, NULL}, -1},
		{{"stray", NULL, NULL}, -1},
		{{"--memory", NULL, NULL}, -1},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *argv[4] = {(char *)"godwit-vm"};
		struct option_set o;
		struct err e = {0};
		int argc = 1;

		while (argc < 4 && cases[i].arg[argc - 1] != NULL) {
			argv[argc] = (char *)(uintptr_t)cases[i].arg[argc - 1];
			argc++;
		}
		if ((option_parse(&o, argc, argv, &e) < 0) != (cases[i].rc < 0))
			fail_msg("%s %s: %s", cases[i].arg[0], cases[i].arg[1], e.text);
	}
}

// Each kind of option sets its own field and no other.
static void options_are_taken(void **state)
{
	static const char *const given[] = {"godwit-vm", "--soft", "--memory", "3M", "--vcpus=64",
		"--agent", "a", "--name", "n", "--pattern", "hot", "--rate", "4294967295",
		"--share", "7", "--report", "never", "--poison", "4294967295", "--content", "heap",
		"--populate", "0", "--seed", "18446744073709551615", "--stay", "--tick", "60000"};
	struct option_set o;
	char *argv[sizeof(given) / sizeof(given[0]) + 1] = {NULL};
	struct err e;

	(void)state;
	memcpy(argv, given, sizeof(given));
	assert_int_equal(option_parse(&o, sizeof(given) / sizeof(given[0]), argv, &e), 0);
	assert_true(
		o.soft && o.stay && !o.huge && !o.incoming && !o.check_on_exit && !o.check_on_move);
	assert_true(o.memory_bytes == 3 << 20 && o.nominal_bytes == 3 << 20 && o.vcpus == 64);
	assert_string_equal(o.agent, "a");
	assert_string_equal(o.name, "n");
	assert_true(o.pattern == PATTERN_HOT && o.rate == UINT32_MAX && o.share == 7);
	assert_true(o.free == 0 && o.balloon == 0 && o.churn == 1 && o.ring == 0 && o.run_ms == 0);
	assert_true(o.report == REPORT_NEVER && o.poison == UINT32_MAX && o.tick_ms == 60000);
	assert_true(o.image.content == IMAGE_HEAP && o.image.seed == UINT64_MAX &&
		    o.image.populate == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_everywhere),
		cmocka_unit_test(plan_is_exact),
		cmocka_unit_test(parts_make_the_whole),
		cmocka_unit_test(layout_holds),
		cmocka_unit_test(options_are_checked),
		cmocka_unit_test(options_are_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
