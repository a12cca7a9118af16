// SPDX-License-Identifier: BSD-3-Clause
// option.c, option_json.c and the tables: every row reads, is helped, and travels as a field.

#include "harness.h"

#include <errno.h>

#include "command.h"
#include "option.h"

#define MIGRATE (1u << COMMAND_MIGRATE)

static struct option_set o;
static const char *words[4];

static int read_args(unsigned where, char **argv, struct err *e)
{
	int argc = 0;

	while (argv[argc] != NULL)
		argc++;
	option_init(&o, option_godwit, where);
	return option_argv(&o, argc, argv, words, 1, e);
}
#define ARGS(where, e, ...) read_args(where, (char *[]){__VA_ARGS__, NULL}, e)

static void test_argv(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(ARGS(MIGRATE, &e, "web", "--to=h:1", "--agent", "/s", "--downtime", "2s",
				 "--hold", "--bandwidth=8Mbit", "--max-time", "5m"),
		1);
	assert_string_equal(words[0], "web");
	assert_string_equal(option_text(&o, "to"), "h:1");
	assert_int_equal(option_number(&o, "downtime"), 2000);
	assert_int_equal(option_number(&o, "bandwidth"), 1000000);
	assert_int_equal(option_number(&o, "max-time"), 300000);
	assert_int_equal(option_number(&o, "hold"), 1);
	assert_int_equal(option_number(&o, "dry-run"), 0);
	assert_int_equal(option_number(&o, "max-passes"), 30);
	assert_string_equal(option_text(&o, "codec"), "raw");
	assert_int_equal(option_complete(&o, &e), 0);
	assert_int_equal(ARGS(MIGRATE, &e, "--hold=no", "--", "--to"), 1);
	assert_string_equal(words[0], "--to");
	assert_int_equal(option_complete(&o, &e), -EINVAL);
	assert_has(e.text, "--agent SOCKET or --qmp SOCKET: exactly one");
	assert_int_equal(ARGS(MIGRATE, &e, "--to=h:1", "--agent=/a", "--qmp=/q"), 0);
	assert_int_equal(option_complete(&o, &e), -EINVAL);
	assert_has(e.text, "exactly one");
	assert_int_equal(ARGS(MIGRATE, &e, "--to=h:1", "--qmp=/q", "--pid=7"), 0);
	assert_int_equal(option_complete(&o, &e), 0);
	assert_int_equal(option_number(&o, "pid"), 7);
}

static void test_mistakes(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(ARGS(MIGRATE, &e, "--no-such"), -EINVAL);
	assert_has(e.text, "unknown option '--no-such'");
	assert_int_equal(ARGS(MIGRATE, &e, "-x"), -EINVAL);
	assert_int_equal(ARGS(MIGRATE, &e, "--to"), -EINVAL);
	assert_has(e.text, "HOST:PORT");
	assert_int_equal(ARGS(MIGRATE, &e, "a", "b"), -EINVAL);
	assert_has(e.text, "one word too many");
	assert_int_equal(ARGS(MIGRATE, &e, "--keep=source"), -EINVAL);
	assert_int_equal(ARGS(MIGRATE, &e, "--flows=0"), -EINVAL);
	assert_int_equal(ARGS(MIGRATE, &e, "--flows=65"), -EINVAL);
	assert_has(e.text, "from 1 to 64");
	assert_int_equal(ARGS(MIGRATE, &e, "--flows=-1"), -EINVAL);
	assert_int_equal(ARGS(MIGRATE, &e, "--verify=no"), -EINVAL);
	assert_has(e.text, "sums|memory");
	assert_int_equal(ARGS(MIGRATE, &e, "--hold=maybe"), -EINVAL);
	assert_int_equal(ARGS(MIGRATE, &e, "--downtime=0"), -EINVAL);
	assert_int_equal(ARGS(1u << COMMAND_LIST, &e, "--to=x"), -EINVAL);
}

static void test_json(void **state)
{
	struct option_set back;
	struct err e;
	json_t *request = json_object();

	(void)state;
	assert_int_equal(ARGS(MIGRATE, &e, "--to=h:1", "--agent=here.sock", "--downtime=2s",
				 "--hold", "--json", "--verify=memory"),
		0);
	option_to_json(&o, request);
	assert_null(json_object_get(request, "json"));
	assert_null(json_object_get(request, "codec")); /* not given: the daemon's default */
	assert_int_equal(json_string_value(json_object_get(request, "agent"))[0], '/');
	json_object_set_new(request, "do", json_string("migrate"));
	option_init(&back, option_godwit, MIGRATE);
	assert_int_equal(option_from_json(&back, request, &e), 0);
	assert_int_equal(option_number(&back, "downtime"), 2000);
	assert_int_equal(option_number(&back, "hold"), 1);
	assert_string_equal(option_text(&back, "to"), "h:1");
	assert_string_equal(option_text(&back, "codec"), "raw");
	json_decref(request);
}

static void test_json_mistakes(void **state)
{
	static const struct {
		const char *json, *says;
	} rows[] = {
		{"{\"flow\": 1}", "unknown field 'flow'"},
		{"{\"json\": true}", "unknown field 'json'"},
		{"{\"keep\": \"source\"}", "unknown field 'keep'"},
		{"{\"flows\": \"1\"}", "flows: a whole number"},
		{"{\"flows\": 1.5}", "flows: a whole number"},
		{"{\"flows\": -1}", "flows: a whole number"},
		{"{\"flows\": 65}", "is not from 1 to 64"},
		{"{\"hold\": 1}", "hold: true or false"},
		{"{\"to\": null}", "to: a string"},
		{"{\"verify\": \"all\"}", "is not one of sums|memory"},
		{"{\"downtime_ms\": 9223372036854775807}", "is not from 1"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *j = json_loads(rows[i].json, 0, NULL);
		struct err e;

		option_init(&o, option_godwit, MIGRATE);
		assert_int_equal(option_from_json(&o, j, &e), -EINVAL);
		assert_has(e.text, rows[i].says);
		json_decref(j);
	}
}

/* Rows fit a set, names differ where they are known together, and --help names each. */
static void test_tables(void **state)
{
	const struct option_row *const tables[] = {option_godwit, option_godwitd};

	(void)state;
	for (int t = 0; t < 2; t++) {
		const struct option_row *r = tables[t];
		char *text = NULL;
		size_t bytes;
		FILE *f = open_memstream(&text, &bytes);

		option_help(f, "--", r, ~0u);
		fclose(f);
		for (; r->name != NULL; r++) {
			char flag[64];

			assert_true(r - tables[t] < OPTION_ROWS);
			assert_non_null(r->arg);
			assert_int_equal(r->kind == OPTION_CHOICE, r->choices != NULL);
			snprintf(flag, sizeof(flag), "--%s ", r->name);
			assert_has(text, flag);
			assert_has(text, r->help);
			for (const struct option_row *q = tables[t]; q < r; q++)
				assert_false(
					(q->where & r->where) && strcmp(q->name, r->name) == 0);
		}
		free(text);
	}
	assert_int_equal(command_find("migrate"), COMMAND_MIGRATE);
	assert_int_equal(command_find("fly"), COMMANDS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_argv),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_json_mistakes),
		cmocka_unit_test(test_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
