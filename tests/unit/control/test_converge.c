// SPDX-License-Identifier: BSD-3-Clause
// converge.c: a table of what is known and what is decided.

#include "harness.h"

#include "clock.h"
#include "converge.h"

#define MS  NS_PER_MS
#define ANY UINT64_MAX

static const struct {
	const char *name;
	struct converge_limits l;
	struct converge_facts f;
	enum converge_what what;
	uint64_t pause_ns; /* ANY: not looked at */
} rows[] = {
	{"the first pass always runs", {300 * MS, 1, 1, CONVERGE_ABORT}, {0, 5 * MS, 0, 0, 0},
		CONVERGE_GO_ON, 0},
	{"fits", {300 * MS, 0, 0, CONVERGE_ABORT}, {1, 0, 1000, 100000, 20 * MS}, CONVERGE_SWITCH,
		30 * MS},
	{"fits exactly", {30 * MS, 0, 0, CONVERGE_ABORT}, {1, 0, 1000, 100000, 20 * MS},
		CONVERGE_SWITCH, 30 * MS},
	{"one ns too long", {30 * MS - 1, 0, 0, CONVERGE_ABORT}, {1, 0, 1000, 100000, 20 * MS},
		CONVERGE_GO_ON, 30 * MS},
	{"fits, but the balloon's bitmap does not", {300 * MS, 0, 0, CONVERGE_ABORT},
		{1, 0, 1000, 100000, 20 * MS, true}, CONVERGE_GO_ON, 30 * MS},
	{"the same, and time is over", {300 * MS, 0, 500 * MS, CONVERGE_ABORT},
		{2, 500 * MS, 1000, 100000, 20 * MS, true}, CONVERGE_SWITCH, 30 * MS},
	{"fits although a limit is reached", {300 * MS, 1, 1, CONVERGE_ABORT},
		{9, 9 * MS, 0, 100000, 0}, CONVERGE_SWITCH, 0},
	{"passes are used up", {10 * MS, 3, 0, CONVERGE_ABORT}, {3, 0, 100000, 100000, 0},
		CONVERGE_GIVE_UP, 1000 * MS},
	{"passes are used up, pause", {10 * MS, 3, 0, CONVERGE_PAUSE}, {3, 0, 100000, 100000, 0},
		CONVERGE_SWITCH, 1000 * MS},
	{"one pass is left", {10 * MS, 3, 0, CONVERGE_ABORT}, {2, 0, 100000, 100000, 0},
		CONVERGE_GO_ON, ANY},
	{"time is over", {10 * MS, 0, 500 * MS, CONVERGE_ABORT}, {2, 500 * MS, 100000, 100000, 0},
		CONVERGE_GIVE_UP, ANY},
	{"time is over, pause", {10 * MS, 0, 500 * MS, CONVERGE_PAUSE},
		{2, 501 * MS, 100000, 100000, 0}, CONVERGE_SWITCH, ANY},
	{"time is left", {10 * MS, 0, 500 * MS, CONVERGE_ABORT}, {2, 499 * MS, 100000, 100000, 0},
		CONVERGE_GO_ON, ANY},
	{"no limits: for ever", {1, 0, 0, CONVERGE_ABORT}, {1000000, ANY, 1, 1, 0}, CONVERGE_GO_ON,
		ANY},
	{"an idle guest, rate unknown", {300 * MS, 0, 0, CONVERGE_ABORT}, {1, 0, 0, 0, 50 * MS},
		CONVERGE_SWITCH, 50 * MS},
	{"a few pages, rate unknown", {300 * MS, 0, 0, CONVERGE_ABORT}, {1, 0, 3000, 0, 0},
		CONVERGE_SWITCH, 100 * MS},
	{"many pages, rate unknown", {300 * MS, 0, 0, CONVERGE_ABORT}, {1, 0, 30000000, 0, 0},
		CONVERGE_GO_ON, ANY},
	{"64 TiB at one page a second", {300 * MS, 0, 0, CONVERGE_ABORT},
		{1, 0, UINT64_C(1) << 34, 1, 0}, CONVERGE_GO_ON, (UINT64_C(1) << 34) * NS_PER_S},
	{"beyond what a clock can tell", {ANY - 1, 0, 0, CONVERGE_ABORT}, {1, 0, ANY, 1, 0},
		CONVERGE_GO_ON, ANY},
	{"no rate helps", {10 * MS, 0, 0, CONVERGE_ABORT}, {1, 0, 0, 100000, 20 * MS},
		CONVERGE_GO_ON, 20 * MS},
};

static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct converge_decision d = converge_decide(&rows[i].l, &rows[i].f);

		if (d.what != rows[i].what ||
			(rows[i].pause_ns != ANY && d.expected_pause_ns != rows[i].pause_ns))
			fail_msg("%s: decided %d (%s), expected pause %llu ns", rows[i].name,
				d.what, d.reason, (unsigned long long)d.expected_pause_ns);
		assert_true(d.reason != NULL && d.reason[0] != '\0');
	}
}

/* 1000 pages a second, a limit of 300 ms, 20 ms for a pause with nothing to send. */
static struct converge_forecast forecast(uint64_t left, double rate, bool known, double dirty)
{
	const struct converge_limits l = {300 * MS, 0, 0, CONVERGE_ABORT};
	const struct converge_pace p = {left, rate, known, dirty, 20 * MS};

	return converge_forecast(&l, &p);
}

static void test_forecast(void **state)
{
	struct converge_forecast f = forecast(5000, 1000, true, 0);

	(void)state;
	/* An idle guest: what is left, and the bare pause. */
	assert_int_equal(f.pass_ns, 5 * NS_PER_S);
	assert_int_equal(f.pause_ns, 20 * MS);
	assert_int_equal(f.end_ns, 5 * NS_PER_S + 20 * MS);
	/* It writes a tenth of what is sent: 5 s, 0.5 s, then 50 ms and the bare pause. */
	f = forecast(5000, 1000, true, 100);
	assert_int_equal(f.pause_ns, 70 * MS);
	assert_int_equal(f.end_ns, 5570 * MS);
	/* As fast as it is sent, and faster: there is no end to it. */
	f = forecast(5000, 1000, true, 1000);
	assert_int_equal(f.end_ns, ANY);
	assert_int_equal(f.pause_ns, ANY);
	assert_int_equal(f.pass_ns, 5 * NS_PER_S);
	f = forecast(5000, 1000, true, 1e12);
	assert_int_equal(f.end_ns, ANY);
	/* Before the guest was looked at twice nobody knows; before anything moved, nothing. */
	f = forecast(5000, 1000, false, 0);
	assert_int_equal(f.pass_ns, 5 * NS_PER_S);
	assert_int_equal(f.end_ns, ANY);
	f = forecast(5000, 0, true, 0);
	assert_int_equal(f.pass_ns, ANY);
	f = forecast(UINT64_MAX, 1, true, 0);
	assert_int_equal(f.pass_ns, ANY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_forecast),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
