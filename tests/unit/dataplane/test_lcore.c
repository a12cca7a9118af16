// SPDX-License-Identifier: BSD-3-Clause
// EAL and worker lcores: lists of CPUs, a memory that moves between two workers, workers that park
// and are woken while they park. One process starts EAL once, so all of it shares one start.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <rte_launch.h>
#include <sched.h>

#include "clock.h"
#include "cpulist.h"
#include "lcore.h"
#include "pair.h"

static const uint64_t sizes[] = {5000, 77};
#define NSIZES 2u

static void reads_lists(void **state)
{
	unsigned cpu[CPULIST_MAX];
	static const char *const bad[] = {
		"", ",", "0,", "a", "1-0", "0-", "-1", "0;1", "99999", "0 ", "1000"};
	struct err e;

	(void)state;
	assert_int_equal(cpulist_parse("0", cpu, &e), 1);
	assert_int_equal(cpulist_parse("0,0,0", cpu, &e), 3);
	assert_int_equal(cpulist_parse("0-0,0", cpu, &e), 2);
	assert_int_equal(cpu[1], 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(cpulist_parse(bad[i], cpu, &e), -EINVAL);
}

static void starts_once(void **state)
{
	const struct eal_config c = {.cores = "0"};
	struct eal_info info;
	struct err e;

	(void)state;
	assert_int_equal(lcore_count(), 3);
	assert_int_equal(lcore_cpu(1), 0);
	assert_int_equal(eal_start(&c, &info, &e), -EALREADY);
}

static void nap(void)
{
	const struct timespec t = {.tv_nsec = (long)NS_PER_MS};

	nanosleep(&t, NULL);
}

static void wait_detached(struct flow *f)
{
	uint64_t end = clock_ns() + 120 * NS_PER_S;

	while (!atomic_load(&f->detached)) {
		assert_true(clock_ns() < end);
		nap();
	}
}

static void wait_pass(struct pair *p, uint32_t pass)
{
	uint64_t end = clock_ns() + 120 * NS_PER_S;

	for (unsigned i = 0; i < PAIR_FLOWS; i++)
		while (atomic_load(&p->send[i]->done_pass) != pass) {
			if (atomic_load(&p->send[i]->error) != 0)
				fail_msg("%s", p->send[i]->why.text);
			assert_true(clock_ns() < end);
			nap();
		}
}

static void moves_by_workers(void **state)
{
	struct seed s = {.state = 1};
	struct pair p;

	(void)state;
	pair_open(&p, sizes, NSIZES, &codec_isal, 1);
	pair_flows(&p);
	pair_fill(&p, &s);
	pair_populated(&p.from, p.dirty.set);
	for (unsigned i = 0; i < PAIR_FLOWS; i++) {
		assert_int_equal(flow_attach(p.send[i]), 0);
		assert_int_equal(flow_attach(p.recv[i]), 0);
	}
	assert_int_equal(lcore_pick(-1), 3); // the others have two each
	pair_publish(&p, 0);
	wait_pass(&p, 0);
	for (unsigned i = 0; i < PAIR_FLOWS; i++) {
		flow_detach(p.send[i]);
		flow_detach(p.recv[i]);
		wait_detached(p.send[i]);
		wait_detached(p.recv[i]);
	}
	pair_compare(&p);
	assert_true(lcore_busy_cycles(1) > 0);
	assert_true(lcore_busy_cycles(2) > 0);
	pair_close(&p);
	lcore_park();
}

static uint64_t idle_of(const struct pair *p)
{
	return stats_get(&p->send[0]->stats, STAT_cycles_idle) +
	       stats_get(&p->recv[0]->stats, STAT_cycles_idle);
}

// A core that naps is idle, and so are its flows.
static void naps_are_idle(void **state)
{
	static const uint64_t size[] = {64};
	uint64_t end = clock_ns() + 120 * NS_PER_S, core, flows;
	struct pair p;

	(void)state;
	pair_open(&p, size, 1, NULL, 0);
	pair_flows(&p);
	p.recv[0]->lcore = p.send[0]->lcore;
	assert_int_equal(flow_attach(p.send[0]), 0);
	assert_int_equal(flow_attach(p.recv[0]), 0);
	while (idle_of(&p) == 0) {
		assert_true(clock_ns() < end);
		nap();
	}
	core = lcore_idle_cycles(p.send[0]->lcore);
	flows = idle_of(&p);
	while (lcore_idle_cycles(p.send[0]->lcore) - core < 100000000) {
		assert_true(clock_ns() < end);
		nap();
	}
	core = lcore_idle_cycles(p.send[0]->lcore) - core;
	assert_true(idle_of(&p) - flows > core / 2);
	flow_detach(p.send[0]);
	flow_detach(p.recv[0]);
	wait_detached(p.send[0]);
	wait_detached(p.recv[0]);
	pair_close(&p);
	lcore_park();
}

// Attaching races with parking: the flow is served all the same.
static void parks_and_wakes(void **state)
{
	static const uint64_t size[] = {64};
	struct pair p;
	uint64_t end = clock_ns() + NS_PER_S;
	uint64_t parked;
	unsigned rounds = 0;

	(void)state;
	pair_open(&p, size, 1, NULL, 0);
	pair_flows(&p);
	while (clock_ns() < end && rounds < 2000) {
		atomic_store(&p.send[0]->stop, false);
		assert_int_equal(flow_attach(p.send[0]), 0);
		flow_detach(p.send[0]);
		while (!atomic_load(&p.send[0]->detached)) {
			assert_true(clock_ns() < end + 120 * NS_PER_S);
			sched_yield();
		}
		lcore_park();
		if (rounds++ % 2 == 0)
			sched_yield();
	}
	assert_true(rounds > 1);
	while (rte_eal_get_lcore_state(1) != WAIT) { // once it has had the CPU
		assert_true(clock_ns() < end + 120 * NS_PER_S);
		lcore_park(); // it may not have said yet that it has nothing to do
		nap();
	}
	// A parked worker counts no cycles.
	parked = lcore_idle_cycles(1);
	nap();
	assert_int_equal(lcore_idle_cycles(1), parked);
	pair_close(&p);
}

static void takes_so_many(void **state)
{
	static const uint64_t size[] = {64};
	struct flow *f[LCORE_FLOWS + 1];
	int other[LCORE_FLOWS + 1];
	struct pair p;

	(void)state;
	pair_open(&p, size, 1, NULL, 0);
	for (unsigned i = 0; i <= LCORE_FLOWS; i++) {
		struct link *l;
		int fd[2];

		pair_sockets(fd);
		other[i] = fd[1];
		assert_int_equal(link_tcp_open(&l, fd[0], true, -1, NULL), 0);
		assert_int_equal(flow_send_new(&f[i], &p.send_job, l, 1, -1, NULL), 0);
		assert_int_equal(flow_attach(f[i]), i < LCORE_FLOWS ? 0 : -ENOSPC);
	}
	assert_int_not_equal(lcore_pick(-1), 1);
	for (unsigned i = 0; i <= LCORE_FLOWS; i++) {
		flow_detach(f[i]);
		if (i < LCORE_FLOWS)
			wait_detached(f[i]);
		flow_free(f[i]);
		close(other[i]);
	}
	pair_close(&p);
}

static int start(void **state)
{
	const struct eal_config c = {.cores = "0,0,0", .idle = LCORE_IDLE_YIELD};
	const struct eal_config huge = {.cores = "0", .huge = true, .mem_mb = 1 << 20};
	const struct eal_config cores = {.cores = "0,x"};
	struct eal_info info;
	struct err e = {0};

	(void)state;
	// What can't be is told, and does not use up the one start.
	assert_int_equal(eal_start(&huge, &info, &e), -ENOMEM);
	assert_non_null(strstr(e.text, "nr_hugepages"));
	assert_int_equal(eal_start(&cores, &info, &e), -EINVAL);
	if (eal_start(&c, &info, &e) != 0) {
		print_error("%s\n", e.text);
		return -1;
	}
	print_message("%s\n", info.chose);
	assert_int_equal(info.nlcores, 3);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	eal_stop();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_lists),
		cmocka_unit_test(starts_once),
		cmocka_unit_test(moves_by_workers),
		cmocka_unit_test(naps_are_idle),
		cmocka_unit_test(parks_and_wakes),
		cmocka_unit_test(takes_so_many),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
