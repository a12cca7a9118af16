// SPDX-License-Identifier: BSD-3-Clause
// Target memory of which not all may be locked: windows are registered and taken back as a source
// asks, and no more at a time than may be, whatever it says. Guests that are larger move whole, by
// keys that come and go, and where the device takes no more of them.

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fake_verbs.h"
#include "link_rdma_end.h"
#include "pair.h"

#define WINDOW_BYTES (LINK_RDMA_POOL_CHUNK * CHUNK_BYTES)
#define MOST         4u

static struct fake_end e[PAIR_FLOWS][2];
static struct link_rdma_host host;
static struct link_rdma_domain domain;
static struct link_rdma_memory *memory;
static struct link_rdma_pool *pool;
static struct pair p;

// The target has one device, of which each flow of a test has a copy.
static struct ibv_mr *reg_both(struct ibv_pd *pd, void *addr, size_t bytes, int access)
{
	struct ibv_mr *mr = verbs_fake.reg_mr(pd, addr, bytes, access);
	struct ibv_mr *copy = verbs_fake.reg_mr(&e[1][1].pd, addr, bytes, access);

	if (mr != NULL && (copy == NULL || copy->rkey != mr->rkey))
		fail_msg("the two copies of the device differ");
	return mr;
}

static int dereg_both(struct ibv_mr *mr)
{
	verbs_fake.dereg_mr(&e[1][1].mr[mr - e[0][1].mr]);
	return verbs_fake.dereg_mr(mr);
}

static const struct verbs both = {.reg_mr = reg_both, .dereg_mr = dereg_both};

static int begin(void **state)
{
	const uint64_t sizes[] = {8000, 64, 7000};
	const bool which[REGION_MAX] = {true, false, true};
	struct link_rdma_pool_plan plan = {.window_bytes = WINDOW_BYTES, .most = MOST};

	(void)state;
	pair_open(&p, sizes, 3, NULL, 1);
	for (unsigned i = 0; i < PAIR_FLOWS; i++) {
		struct link *l[2];

		fake_links(e[i], l, RDMA_MESSAGE_BYTES);
		e[i][0].moves = 3; // what is sent takes its time
		p.send[i] = (struct flow *)l[0];
		p.recv[i] = (struct flow *)l[1];
	}
	memset(&host, 0, sizeof(host));
	host.v = &both;
	host.info.most_mr = UINT64_MAX;
	LIST_INIT(&host.memories);
	domain = (struct link_rdma_domain){.host = &host, .pd = &e[0][1].pd, .users = 1};
	assert_int_equal(
		link_rdma_memory_turns(&memory, &domain, &p.to, which, WINDOW_BYTES, MOST, NULL),
		0);
	while (link_rdma_memory_ready(memory, NULL) == 0)
		sched_yield();
	for (unsigned i = 0; i < p.to.n; i++) {
		plan.there[i] = which[i];
		plan.base[i] = (uintptr_t)p.to.r[i].base;
	}
	return link_rdma_pool_new(&pool, &p.from, &plan, PAIR_FLOWS, NULL);
}

// Makes flows of the links.
static void flows(void)
{
	static const struct link_rdma_key none[REGION_MAX];

	for (unsigned i = 0; i < p.to.n; i++) {
		memset(p.to.r[i].base, 0, p.to.r[i].bytes);
		if (i != 1)
			assert_int_equal(recv_job_pin(&p.recv_job, i, NULL), 0);
	}
	recv_job_populated(&p.recv_job);
	for (unsigned i = 0; i < PAIR_FLOWS; i++) {
		struct link *l[2] = {(struct link *)p.send[i], (struct link *)p.recv[i]};

		link_rdma_direct(l[0], none);
		link_rdma_by_turns(l[0], pool, i);
		link_rdma_direct(l[1], NULL);
		assert_int_equal(flow_send_new(&p.send[i], &p.send_job, l[0], 1, -1, NULL), 0);
		assert_int_equal(flow_recv_new(&p.recv[i], &p.recv_job, l[1], 2, -1, NULL), 0);
	}
}

static unsigned registered(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < e[0][1].mrs; i++)
		n += e[0][1].mr[i].addr != NULL && e[0][1].mr[i].length == WINDOW_BYTES;
	return n;
}

static int end(void **state)
{
	(void)state;
	pair_close(&p);
	link_rdma_pool_free(pool);
	link_rdma_memory_free(memory);
	rdma_memory_reap(&host, true);
	assert_int_equal(registered(), 0);
	for (unsigned i = 0; i < PAIR_FLOWS; i++) {
		fake_free(&e[i][0]);
		fake_free(&e[i][1]);
	}
	return 0;
}

// Tests without flows.
static int end_links(void **state)
{
	for (unsigned i = 0; i < PAIR_FLOWS; i++) {
		link_rdma_close((struct link *)p.send[i]);
		link_rdma_close((struct link *)p.recv[i]);
		p.send[i] = p.recv[i] = NULL;
	}
	return end(state);
}

static void wait_idle(void)
{
	struct link_rdma_said said;

	while (link_rdma_memory_busy(memory)) {
		if (!link_rdma_memory_said(memory, &said)) {
			sched_yield();
			continue;
		}
		assert_true(registered() <= MOST);
		if (said.refused != 0)
			assert_int_equal(link_rdma_pool_refused(pool, said.window), 0);
		else
			assert_int_equal(
				link_rdma_pool_registered(pool, said.window, said.rkey), 0);
	}
}

// As both control loops do it. The device's thread is waited for: nobody polls the device then.
static void turn(void)
{
	struct link_rdma_pool_ask ask;
	struct span s;

	for (int64_t i = 1; i <= (int64_t)PAIR_FLOWS && claim_peek(&p.claim, 0, -i, &s); i++)
		link_rdma_pool_hold(
			pool, s.region, s.chunk - p.from.r[s.region].first_chunk, s.nchunks);
	for (int64_t i = 0; claim_peek(&p.claim, 0, i, &s) &&
			    link_rdma_pool_near(pool, s.region,
				    s.chunk - p.from.r[s.region].first_chunk, s.nchunks);
		i++)
		;
	if (!link_rdma_pool_turn(pool, &ask))
		return;
	for (unsigned i = 0; i < ask.ndrop; i++)
		assert_int_equal(link_rdma_memory_drop(memory, ask.drop[i]), 0);
	for (unsigned i = 0; i < ask.nwant; i++)
		assert_int_equal(link_rdma_memory_want(memory, ask.want[i]), 0);
	wait_idle();
}

static bool over(uint32_t pass)
{
	for (unsigned i = 0; i < PAIR_FLOWS; i++)
		if (atomic_load(&p.send[i]->done_pass) != pass)
			return false;
	return true;
}

static void run(uint32_t pass)
{
	for (unsigned n = 0; !over(pass); n++) {
		for (unsigned i = 0; i < PAIR_FLOWS; i++) {
			flow_poll(p.send[i]);
			flow_poll(p.recv[i]);
			if (atomic_load(&p.send[i]->error) != 0)
				fail_msg("%s", p.send[i]->why.text);
			if (atomic_load(&p.recv[i]->error) != 0)
				fail_msg("%s", p.recv[i]->why.text);
		}
		if (n % 16 == 0)
			turn();
	}
}

static void move(unsigned passes)
{
	struct seed s = {.state = 7};

	flows();
	for (uint32_t pass = 0; pass < passes; pass++) {
		pair_fill(&p, &s);
		pair_populated(&p.from, p.dirty.set);
		pair_publish(&p, pass);
		run(pass);
		pair_finish_pass(&p);
		for (unsigned i = 0; i < p.from.n; i++)
			assert_memory_equal(p.from.r[i].base, p.to.r[i].base, p.from.r[i].bytes);
	}
}

static uint64_t sum(enum stats_id id)
{
	return stats_get(&p.send[0]->stats, id) + stats_get(&p.send[1]->stats, id);
}

// Keys come and go while a guest moves that is four times as large as what may be locked.
static void moves_by_turns(void **state)
{
	struct link_rdma_registered figures;

	(void)state;
	move(3);
	assert_true(pool->counts.dropped > MOST && pool->counts.refused == 0);
	assert_true(sum(STAT_pages_direct) > 0 && sum(STAT_pages_keyless) > 0);
	assert_true(sum(STAT_pages_direct) + sum(STAT_pages_keyless) <= sum(STAT_pages_data));
	link_rdma_memory_figures(memory, &figures);
	assert_true(figures.bytes > 0 && figures.bytes <= MOST * WINDOW_BYTES);
	assert_true(pool->counts.most_held > 1 && pool->counts.most_held <= MOST);
	assert_true(figures.register_ns > 0 && figures.deregister_ns > 0);
}

// The device takes two windows, and no more ever after: what has no key goes through slots.
static void goes_on_without(void **state)
{
	(void)state;
	e[0][1].reg_errno = e[1][1].reg_errno = ENOMEM;
	e[0][1].reg_good = e[1][1].reg_good = e[0][1].keys + 2;
	move(2);
	assert_true(pool->counts.refused > 0);
	assert_true(pool->most <= 2 && registered() <= 2);
	assert_true(sum(STAT_pages_keyless) > 0);
}

// The source may be hostile.
static void only_what_is_its_own(void **state)
{
	struct link_rdma_said said;

	(void)state;
	assert_int_equal(link_rdma_memory_want(memory, UINT64_MAX), -EPROTO);
	assert_int_equal(link_rdma_memory_want(memory, 15), -EPROTO);
	assert_int_equal(link_rdma_memory_drop(memory, 15), -EPROTO);
	assert_int_equal(link_rdma_memory_drop(memory, 0), -EPROTO);
	for (unsigned i = 0; i < MOST; i++) {
		assert_int_equal(link_rdma_memory_want(memory, 12 - i), 0);
		assert_int_equal(link_rdma_memory_want(memory, 12 - i), -EPROTO);
		// Its key was not told.
		assert_int_equal(link_rdma_memory_drop(memory, 12 - i), -EPROTO);
	}
	assert_int_equal(link_rdma_memory_want(memory, 0), -EPROTO);
	for (unsigned i = 0; i < MOST; i++) {
		while (!link_rdma_memory_said(memory, &said))
			sched_yield();
		assert_int_equal(said.window, 12 - i);
		assert_int_equal(said.refused, 0);
	}
	assert_false(link_rdma_memory_said(memory, &said));
	assert_int_equal(link_rdma_memory_want(memory, 12), -EPROTO);
	assert_int_equal(link_rdma_memory_drop(memory, 12), 0);
	assert_int_equal(link_rdma_memory_drop(memory, 12), -EPROTO);
	// It may come back at once, under another key.
	assert_int_equal(link_rdma_memory_want(memory, 12), 0);
	assert_int_equal(link_rdma_memory_want(memory, 0), -EPROTO);
	while (!link_rdma_memory_said(memory, &said))
		sched_yield();
	assert_int_equal(said.window, 12);
	assert_int_equal(registered(), MOST);
}

// A lost network: whatever was asked for, nothing is registered at last, and all may be asked for
// again. Then the session ends with something under way.
static void forgets(void **state)
{
	struct link_rdma_said said;

	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < MOST; i++)
			assert_int_equal(link_rdma_memory_want(memory, i), 0);
		for (unsigned i = 0; i < round % MOST; i++) {
			while (!link_rdma_memory_said(memory, &said))
				sched_yield();
			assert_int_equal(link_rdma_memory_drop(memory, i), 0);
		}
		while (!link_rdma_memory_forget(memory))
			sched_yield();
		assert_int_equal(registered(), 0);
	}
	for (unsigned i = 0; i < MOST; i++)
		assert_int_equal(link_rdma_memory_want(memory, i), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(moves_by_turns, begin, end),
		cmocka_unit_test_setup_teardown(goes_on_without, begin, end),
		cmocka_unit_test_setup_teardown(only_what_is_its_own, begin, end_links),
		cmocka_unit_test_setup_teardown(forgets, begin, end_links),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
