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

/* What passes had to send, at 10000 pages a second, and the percent that vCPUs have after each. A
 * pause of up to 100 ms, 1000 pages, is allowed; --throttle is 40, and --max-passes 8. */
static const struct {
	const char *name;
	uint64_t dirty[9];
	unsigned percent[9];
} slowed[] = {
	{"it converges", {90000, 40000, 20000, 9000, 900}, {100, 100, 100, 100, 100}},
	{"it does not: two passes show it, then one each",
		{90000, 80000, 80000, 80000, 70000, 60000, 60000, 60000},
		{100, 100, 75, 56, 42, 40, 40, 40}},
	{"by three quarters is enough", {80000, 59999, 44998, 33748}, {100, 100, 100, 100}},
	{"by just less is not", {80000, 60000, 45000, 33750}, {100, 100, 75, 56}},
	{"once is not twice", {80000, 80000, 40000, 40000, 10000}, {100, 100, 100, 100, 100}},
	{"it stays slowed", {80000, 80000, 80000, 30000, 10000, 10000}, {100, 100, 75, 75, 75, 56}},
	{"it would end now", {2000, 1000, 1000, 1000}, {100, 100, 100, 100}},
	{"nothing was written", {0, 0, 0}, {100, 100, 100}},
	{"the limit is reached", {80000, 80000, 80000, 80000, 10000, 5000, 2500, 1250, 1250},
		{100, 100, 75, 56, 56, 56, 56, 56, 56}},
};

static void test_throttle(void **state)
{
	const struct converge_limits l = {100 * MS, 8, 0, CONVERGE_ABORT};

	(void)state;
	for (size_t i = 0; i < sizeof(slowed) / sizeof(slowed[0]); i++) {
		struct converge_throttle t = {.percent = 100};

		for (uint32_t pass = 0; pass < 9 && slowed[i].percent[pass] != 0; pass++) {
			const struct converge_facts f = {pass, 0, slowed[i].dirty[pass], 10000, 0};
			unsigned before = t.percent;

			if (converge_throttle(&t, 40, &l, &f) != (t.percent != before) ||
				t.percent != slowed[i].percent[pass])
				fail_msg(
					"%s: %u %% after pass %u", slowed[i].name, t.percent, pass);
		}
	}
}

/* Never where nobody asked for it, and not where the pause itself is too long. */
static void test_throttle_never(void **state)
{
	const struct converge_limits l = {100 * MS, 0, 0, CONVERGE_ABORT};

	(void)state;
	for (unsigned least = 1; least <= 100; least += 99) {
		struct converge_throttle t = {.percent = 100};
		struct converge_facts f = {.dirty_pages = 1000000, .pages_per_s = 10000};

		f.overhead_ns = least == 100 ? 0 : 101 * MS;
		for (; f.passes < 10; f.passes++)
			assert_false(converge_throttle(&t, least, &l, &f));
		assert_int_equal(t.percent, 100);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_forecast),
		cmocka_unit_test(test_throttle),
		cmocka_unit_test(test_throttle_never),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
