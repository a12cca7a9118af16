// SPDX-License-Identifier: BSD-3-Clause
// stall.c and vcpus.c: what counts as lost, what is the baseline; the texts of /proc; a real
// thread.

#include "harness.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "stall.h"

#define S NS_PER_S

/* Met at 100 s, tracked from 110 s, looked at 120 s; a vCPU that is as old as 60 s by then. */
static struct stall a_stall(struct stall_vcpu *v, unsigned n)
{
	struct stall s = {
		.n = n, .v = v, .first_ns = 100 * S, .armed_ns = 110 * S, .last_ns = 120 * S};

	return s;
}

static void test_above_the_window(void **state)
{
	/* Usually 0.1 s of kernel a second, and no wait; then 3 s in 10, of which 1 s is usual. */
	struct stall_vcpu v = {.born_ns = 60 * S,
		.first = {2 * S, 5 * S},
		.armed = {3 * S, 5 * S},
		.last = {6 * S, 6 * S}};
	struct stall s = a_stall(&v, 1);
	struct stall_figures f;

	(void)state;
	assert_true(stall_figure(&s, &f));
	assert_int_equal(f.vcpus, 1);
	assert_int_equal(f.over_ns, 10 * S);
	assert_int_equal(f.kernel_ns, 2 * S);
	assert_int_equal(f.wait_ns, 1 * S);
	assert_false(f.whole_life);
}

static void test_short_window_takes_the_life(void **state)
{
	/* 50 s old with 5 s of kernel and 10 s of wait: 1 s and 2 s are usual in 10 s. */
	struct stall_vcpu v = {.born_ns = 60 * S,
		.first = {5 * S, 10 * S},
		.armed = {5 * S, 10 * S},
		.last = {8 * S, 11 * S}};
	struct stall s = a_stall(&v, 1);
	struct stall_figures f;

	(void)state;
	s.first_ns = s.armed_ns - STALL_WINDOW_NS + 1;
	assert_true(stall_figure(&s, &f));
	assert_true(f.whole_life);
	assert_int_equal(f.kernel_ns, 2 * S);
	assert_int_equal(f.wait_ns, 0); /* less than usual is no gain */
}

/* A vCPU that got better does not hide what another lost. */
static void test_sums_are_by_thread(void **state)
{
	struct stall_vcpu v[2] = {
		{.first = {0, 0}, .armed = {10 * S, 0}, .last = {10 * S, 0}},
		{.first = {0, 0}, .armed = {0, 0}, .last = {4 * S, 0}},
	};
	struct stall s = a_stall(v, 2);
	struct stall_figures f;

	(void)state;
	assert_true(stall_figure(&s, &f));
	assert_int_equal(f.vcpus, 2);
	assert_int_equal(f.kernel_ns, 4 * S);
}

static void test_nothing_measured(void **state)
{
	struct stall_vcpu v = {0};
	struct stall s = a_stall(&v, 0), none = {0};
	struct stall_figures f;

	(void)state;
	assert_false(stall_figure(&s, &f));
	assert_false(stall_figure(&none, &f));
	s.n = 1;
	s.last_ns = 0;
	assert_false(stall_figure(&s, &f));
	stall_look(&none); /* before it began */
	stall_arm(&none);
	stall_fini(&none);
}

static void test_parse(void **state)
{
	static const char stat[] = "77 (CPU 0) R 9 (x) S 1 2 3 4 5 6 7 8 9 10 11 250 13 14 15 16 1 "
				   "18 123 20 21";
	static const char plain[] = "77 (CPU 0/KVM) S 1 2 3 4 5 6 7 8 9 10 11 250 13 14 15 16 1 18 "
				    "123 20 21";
	struct vcpus_time t;
	uint64_t born;

	(void)state;
	assert_int_equal(vcpus_parse(plain, "9 4567 3", S / 100, &t, &born), 0);
	assert_int_equal(t.kernel_ns, 250 * (S / 100));
	assert_int_equal(t.wait_ns, 4567);
	assert_int_equal(born, 123 * (S / 100));
	/* A name with brackets: what follows the last one counts. */
	assert_int_equal(vcpus_parse(stat, "9 4567 3", S / 100, &t, &born), 0);
	assert_int_equal(t.kernel_ns, 250 * (S / 100));
	assert_true(vcpus_parse("", "9 4567 3", S / 100, &t, &born) < 0);
	assert_true(vcpus_parse("77 (x) S 1 2", "9 4567 3", S / 100, &t, &born) < 0);
	assert_true(vcpus_parse(plain, "", S / 100, &t, &born) < 0);
	assert_true(vcpus_parse(plain, "9", S / 100, &t, &born) < 0);
}

static int pipe_fd[2];

static void *vcpu(void *arg)
{
	char c;

	(void)arg;
	pthread_setname_np(pthread_self(), "CPU 7/test");
	while (read(pipe_fd[0], &c, 1) == 1 && c != 'q')
		;
	return NULL;
}

/* This process as VMM, with one thread that is named as vCPUs are. */
static void test_of_a_thread(void **state)
{
	pid_t tids[4];
	struct vcpus_time t;
	struct stall s = {0};
	struct stall_figures f;
	pthread_t thread;
	uint64_t born;

	(void)state;
	assert_int_equal(pipe(pipe_fd), 0);
	assert_int_equal(vcpus_named(getpid(), tids, 4), 0);
	assert_int_equal(pthread_create(&thread, NULL, vcpu, NULL), 0);
	while (vcpus_named(getpid(), tids, 4) != 1)
		usleep(1000);
	if (vcpus_time(getpid(), tids[0], &t, &born) < 0) {
		print_message("this kernel does not count what threads wait (schedstat)\n");
		skip();
	}
	assert_true(born > 0);
	stall_begin(&s, getpid(), tids, 1);
	stall_arm(&s);
	usleep(1000);
	stall_look(&s);
	assert_true(stall_figure(&s, &f));
	assert_int_equal(f.vcpus, 1);
	assert_int_equal(write(pipe_fd[1], "q", 1), 1);
	pthread_join(thread, NULL);
	while (vcpus_time(getpid(), tids[0], &t, &born) == 0)
		usleep(1000);
	stall_look(&s); /* it has gone: there is nothing to tell */
	assert_false(stall_figure(&s, &f));
	stall_fini(&s);
	stall_begin(&s, getpid(), tids, 0);
	assert_false(stall_figure(&s, &f));
	stall_fini(&s);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_above_the_window),
		cmocka_unit_test(test_short_window_takes_the_life),
		cmocka_unit_test(test_sums_are_by_thread),
		cmocka_unit_test(test_nothing_measured),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_of_a_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
