// SPDX-License-Identifier: BSD-3-Clause
// can.c: what a hello tells of its side, and what two sides make of it.

#include "harness.h"

#include <errno.h>

#include "can.h"

/* A hello with what this Godwit tells, and text in place of one of its lists. */
static json_t *hello(const char *list, const char *text)
{
	json_t *h = json_pack("{s:o}", "can", can_tell(true, true));

	if (list != NULL)
		json_object_set_new(
			json_object_get(h, "can"), list, json_loads(text, JSON_DECODE_ANY, NULL));
	return h;
}

static int reads(json_t *h, struct err *e)
{
	int rc = can_read(h, e);

	json_decref(h);
	return rc;
}

static void test_read(void **state)
{
	static const char *const wrong[] = {"[\"raw\"]", "null", "1", "{\"raw\": 0}",
		"{\"raw\": -1}", "{\"raw\": \"1\"}", "{\"raw\": 65536}", "{\"raw\": 1.5}",
		"{\"a name that is longer than any is\": 1}"};
	json_t *h = hello(NULL, NULL), *much = json_object_get(json_object_get(h, "can"), "links");
	char name[16];
	struct err e;

	(void)state;
	assert_int_equal(can_read(h, &e), 0);
	for (unsigned i = 0; i < 65; i++) {
		snprintf(name, sizeof(name), "link%u", i);
		json_object_set_new(much, name, json_integer(1));
	}
	assert_int_equal(reads(h, &e), -EPROTO);
	assert_has(e.text, "links");
	assert_int_equal(reads(json_object(), &e), -EPROTO);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(reads(hello("codecs", wrong[i]), &e), -EPROTO);
		assert_has(e.text, "codecs");
	}
}

static void test_need(void **state)
{
	json_t *ours = can_tell(false, false),
	       *theirs = hello("codecs", "{\"raw\": 1, \"lz4\": 3}");
	struct err e;

	(void)state;
	assert_int_equal(can_need(ours, true, theirs, "codecs", "raw", &e), 0);
	assert_int_equal(can_need(ours, true, theirs, "links", "tcp", &e), 0);
	assert_int_equal(can_need(ours, true, theirs, "codecs", "lz4", &e), -ENOTSUP);
	assert_has(e.text,
		"target's Godwit has codec lz4 in version 3, and the source's in version 1");
	assert_int_equal(can_need(ours, false, theirs, "codecs", "lz4", &e), -ENOTSUP);
	assert_has(e.text,
		"target's Godwit has codec lz4 in version 1, and the source's in version 3");
	assert_int_equal(can_need(ours, true, theirs, "codecs", "zstd", &e), -ENOTSUP);
	assert_has(e.text, "the target's Godwit has no codec zstd");
	assert_int_equal(can_need(ours, true, theirs, "links", "nic", &e), -ENOTSUP);
	assert_has(e.text, "the source's Godwit has no link nic");
	assert_int_equal(can_need(ours, false, theirs, "links", "nic", &e), -ENOTSUP);
	assert_has(e.text, "the target's Godwit has no link nic");
	assert_int_equal(can_need(ours, false, theirs, "codecs", "zstd", &e), -ENOTSUP);
	assert_has(e.text, "the source's Godwit has no codec zstd");
	assert_int_equal(can_need(ours, true, NULL, "seals", "none", &e), -ENOTSUP);
	json_decref(ours);
	json_decref(theirs);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_need),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
