// SPDX-License-Identifier: BSD-3-Clause
// view.c: the picture of a running migration, line by line; and that nothing in an event can make
// it wider than it may be, or speak to the terminal.

#include "harness.h"

#include "view.h"

static char *printed(const struct view *v, unsigned width, unsigned *lines)
{
	char *text = NULL;
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);

	*lines = view_print(v, out, width, 24);
	fclose(out);
	return text;
}

static void take(struct view *v, const char *text, bool changes)
{
	json_t *event = json_loads(text, 0, NULL);

	assert_non_null(event);
	assert_int_equal(view_take(v, event), changes);
	json_decref(event);
}

static void test_picture(void **state)
{
	struct view v;
	unsigned lines;
	char *text;

	(void)state;
	view_init(&v, "web");
	take(&v, "{\"event\": \"state\", \"state\": \"copying\", \"stage\": \"copy\"}", true);
	take(&v,
		"{\"event\": \"passed\", \"pass\": 0, \"kind\": \"live\", \"dirty_pages\": 1000, "
		"\"hole_pages\": 20, \"pages_data\": 600, \"pages_zero\": 400, \"pages_hole\": 20, "
		"\"skipped_pages\": 7, \"balloon_pages\": 2, \"free_pages\": 1, \"ms\": 1500.0}",
		true);
	take(&v,
		"{\"event\": \"pass\", \"pass\": 1, \"kind\": \"live\", \"dirty_pages\": 100, "
		"\"hole_pages\": 0, \"skipped_pages\": 7, \"free_pages\": 2}",
		true);
	take(&v,
		"{\"event\": \"progress\", \"pass\": 1, \"pages_done\": 25, \"pages_left\": 75, "
		"\"pages_data\": 20, \"pages_zero\": 5, \"pages_hole\": 0, \"elapsed_ms\": 2000, "
		"\"pages_per_s\": 262144, \"wire_per_s\": 1048576, \"ratio\": 2.5, "
		"\"bytes_wire\": 2097152, \"dirty_per_s\": 256, \"ends_ms\": 300000, "
		"\"pause_ms\": 41.0, \"stall_ms\": 12.0, \"cores\": [{\"flow\": 0, \"cpu\": 3, "
		"\"scan\": 0.25, \"idle\": 0.001}]}",
		true);
	take(&v, "{\"event\": \"log\", \"text\": \"x\"}", false);
	text = printed(&v, 200, &lines);
	assert_string_equal(text,
		"web: copying (copy), 2.0 s, ends in about 5 min, pause about 41 ms\n"
		" pass kind    to send      sent      zero     holes  left out\n"
		"    0 live       1020       600       400        20        10  1.500 s\n"
		"    1 live        100        20         5         0         9  25 % [##......]\n"
		"  left out of the last one: 9 (holes 7, free 2)\n"
		"  guest memory 1.00 GiB/s, wire 1.00 MiB/s, ratio 2.50\n"
		"  2.00 MiB on the wire, written by the guest 1.00 MiB/s, stall 12 ms\n"
		"  flow 0, CPU 3: scan 25 %\n");
	assert_int_equal(lines, 8);
	free(text);
	text = printed(&v, 20, &lines);
	assert_int_equal(lines, 8);
	for (const char *at = text; *at != '\0'; at += strcspn(at, "\n") + 1)
		assert_true(strcspn(at, "\n") <= 20);
	free(text);
	view_fini(&v);
}

static void test_nothing_is_trusted(void **state)
{
	static const char *const events[] = {
		"{\"event\": \"state\", \"state\": \"\\u001b[2J\\n\", \"stage\": 7}",
		"{\"event\": \"pass\", \"pass\": \"x\", \"kind\": [], \"dirty_pages\": 1e300}",
		"{\"event\": \"progress\", \"pages_done\": -1, \"pages_left\": -5, "
		"\"pages_per_s\": "
		"1e300, \"bytes_wire\": -1e300, \"cores\": [1, {}, null, {\"cpu\": \"x\"}]}",
		"{\"event\": \"passed\"}",
		"{}",
		"[]",
	};
	struct view v;
	unsigned lines;
	char *text;

	(void)state;
	view_init(&v, "x");
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		json_t *event = json_loads(events[i], 0, NULL);

		assert_non_null(event);
		view_take(&v, event);
		json_decref(event);
		text = printed(&v, 79, &lines);
		assert_null(strchr(text, '\033'));
		assert_true(lines > 0 && lines <= 24);
		free(text);
	}
	for (int i = 0; i < 100; i++)
		take(&v, "{\"event\": \"passed\", \"pass\": 1}", true);
	text = printed(&v, 79, &lines);
	assert_true(lines <= 24);
	free(text);
	view_fini(&v);
}

/* One who comes late sees what was before. */
static void test_seed(void **state)
{
	json_t *session = json_loads("{\"state\": \"copying\", \"stage\": \"copy\", \"report\": "
				     "{\"passes_detail\": [{\"pass\": 0, \"kind\": \"live\"}]}, "
				     "\"under_way\": {\"pass\": 1, \"kind\": \"live\", "
				     "\"dirty_pages\": 70, \"hole_pages\": 7}}",
		0, NULL);
	struct view v;
	unsigned lines;
	char *text;

	(void)state;
	view_init(&v, "web");
	view_seed(&v, NULL);
	text = printed(&v, 79, &lines);
	assert_string_equal(text, "web: preparing\n");
	free(text);
	view_seed(&v, session);
	text = printed(&v, 79, &lines);
	assert_int_equal(lines, 4);
	assert_non_null(strstr(text, "copying"));
	assert_non_null(strstr(text, "    1 live         77"));
	free(text);
	take(&v,
		"{\"event\": \"progress\", \"pass\": 1, \"ends_ms\": null, \"pass_ends_ms\": 3000}",
		true);
	text = printed(&v, 79, &lines);
	assert_non_null(strstr(text, "(copy), 0.0 s, pass 1 ends in about 3.0 s\n"));
	free(text);
	view_fini(&v);
	json_decref(session);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_picture),
		cmocka_unit_test(test_nothing_is_trusted),
		cmocka_unit_test(test_seed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
