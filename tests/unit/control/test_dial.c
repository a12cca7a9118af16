// SPDX-License-Identifier: BSD-3-Clause
// dial.c and resolve.c: numbers, names, refusals, deadlines, cancelling.

#include "harness.h"

#include <errno.h>

#include "listen.h"

static struct event_base *base;
static struct listen *l;
static char address[64];
static int got_fd, calls, accepted;
static bool any;
static struct err got_why;

static void on_conn(void *arg, int fd, struct tls *tls, const struct preamble *p)
{
	(void)arg;
	assert_null(tls);
	assert_int_equal(p->kind, PREAMBLE_FLOW);
	assert_int_equal(p->flow, 9);
	accepted++;
	close(fd);
}

static void on_done(void *arg, int fd, struct tls *tls, const struct err *why)
{
	(void)arg;
	assert_null(tls);
	calls++;
	any = true;
	got_fd = fd;
	if (fd < 0)
		got_why = *why;
}

static const struct preamble flow = {.kind = PREAMBLE_FLOW, .flow = 9};

static struct dial *dial(const char *to, unsigned ms, struct err *e)
{
	calls = 0;
	any = false;
	got_fd = -1;
	return dial_new(base, to, &flow, ms, on_done, NULL, e);
}

static void test_number_and_name(void **state)
{
	const char *hosts[] = {"127.0.0.1", "localhost"};
	struct err e;

	(void)state;
	for (int i = 0; i < 2; i++) {
		accepted = 0;
		snprintf(address, sizeof(address), "%s:%u", hosts[i], listen_port(l));
		assert_non_null(dial(address, 5000, &e));
		assert_int_equal(calls, 0);
		harness_run(base, &any);
		assert_true(got_fd >= 0);
		harness_until(base, accepted > 0);
		assert_int_equal(accepted, 1);
		assert_int_equal(calls, 1);
		close(got_fd);
	}
}

static void test_refused(void **state)
{
	struct listen *gone;
	struct err e;

	(void)state;
	assert_int_equal(listen_new(&gone, base, "127.0.0.1:0", on_conn, NULL, &e), 0);
	snprintf(address, sizeof(address), "127.0.0.1:%u", listen_port(gone));
	listen_free(gone);
	assert_non_null(dial(address, 5000, &e));
	harness_run(base, &any);
	assert_int_equal(got_fd, -1);
	assert_int_equal(got_why.errnum, ECONNREFUSED);
	assert_has(got_why.text, "start godwitd");
}

static void test_no_such_name(void **state)
{
	struct err e;

	(void)state;
	assert_non_null(dial("no-such-host.invalid:1", 5000, &e));
	harness_run(base, &any);
	assert_int_equal(got_fd, -1);
	assert_has(got_why.text, "no-such-host.invalid");
}

static void test_bad_address(void **state)
{
	struct err e;

	(void)state;
	assert_null(dial(":4646", 100, &e));
	assert_int_equal(e.errnum, EINVAL);
	assert_null(dial("::1", 100, &e));
	assert_null(dial("host:99999", 100, &e));
	harness_turn(base, 150);
	assert_int_equal(calls, 0);
}

/* An address of a network for documents: nobody answers, or the kernel has no route to it. */
static void test_deadline(void **state)
{
	struct err e;

	(void)state;
	assert_non_null(dial("192.0.2.1:4646", 100, &e));
	harness_run(base, &any);
	assert_int_equal(got_fd, -1);
	assert_int_equal(calls, 1);
}

static void test_cancel(void **state)
{
	struct err e;

	(void)state;
	snprintf(address, sizeof(address), "127.0.0.1:%u", listen_port(l));
	dial_cancel(dial(address, 1000, &e));
	dial_cancel(dial("localhost:1", 1000, &e));
	dial_cancel(dial("no-such-host.invalid:1", 1000, &e));
	dial_cancel(NULL);
	harness_turn(base, 50);
	assert_int_equal(calls, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_number_and_name),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_no_such_name),
		cmocka_unit_test(test_bad_address),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_cancel),
	};
	struct err e;
	int rc;

	base = event_base_new();
	if (listen_new(&l, base, "127.0.0.1:0", on_conn, NULL, &e) < 0)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	listen_free(l);
	event_base_free(base);
	return rc;
}
