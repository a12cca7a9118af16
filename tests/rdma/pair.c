// SPDX-License-Identifier: BSD-3-Clause
// Threads on what the rdma link shares, over a real device: `pair ADDRESS`. A control thread that
// looks after connections while a core for each end polls its flow, and the thread that registers
// guest memory. Built with the thread sanitizer (see tests/e2e/test_rdma.py) a race ends it.

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "link_rdma.h"
#include "pair.h"

#define WAIT_NS (120 * NS_PER_S)
#define PASSES  3u

static const char *address;
static struct link_rdma_host *host[2]; // source, target
static struct link *up[2][PAIR_FLOWS];
static unsigned ups;
static struct pair p;
static struct link_rdma_domain *domain[2];
static struct link_rdma_memory *memory, *lent;
static struct link_rdma_key keys[REGION_MAX];

struct core {
	struct flow *flow;
	pthread_t thread;
	_Atomic bool stop;
	_Atomic uint32_t saw;
};
static struct core core[2 * PAIR_FLOWS];
// In a pass chunks belong to other cores than in the one before. At the target they are handed over
// by way of the wire, which the sanitizer can't see: here each core sees what the others did
// before.
static _Atomic uint32_t passes;

static void on_up(void *arg, struct link *l, const struct err *why)
{
	struct link **where = arg;

	if (l == NULL)
		fail_msg("%s", why->text);
	*where = l;
	ups++;
}

static bool asked(void *arg, const struct link_rdma_ask *ask, struct link_rdma_welcome *w)
{
	(void)arg;
	w->domain = domain[1];
	w->up = on_up;
	w->arg = &up[1][ask->flow % PAIR_FLOWS];
	return true;
}

static void look(void)
{
	link_rdma_host_poll(host[0]);
	link_rdma_host_poll(host[1]);
	usleep(1000); // a device that is software needs the cores
}

static void open_hosts(void)
{
	const struct link_rdma_host_config c = {
		.address = address, .traffic_class = -1, .trusted = true, .asked = asked};
	struct err e;

	for (unsigned i = 0; i < 2; i++)
		if (link_rdma_host_open(&host[i], &c, &e) < 0 ||
			link_rdma_domain_new(&domain[i], host[i], &e) < 0)
			fail_msg("%s", e.text);
}

static void connect_flows(void)
{
	const uint8_t token[LINK_RDMA_TOKEN_BYTES] = {1};
	static struct link_rdma_end *end[PAIR_FLOWS];
	struct link_rdma_info i;
	struct err e;

	link_rdma_host_info(host[1], &i);
	for (unsigned k = 0; k < PAIR_FLOWS; k++)
		if (link_rdma_dial(domain[0], &end[k], address, i.port, token, k, 15 * NS_PER_S,
			    on_up, &up[0][k], &e) < 0)
			fail_msg("%s", e.text);
	while (ups < 2 * PAIR_FLOWS)
		look();
}

static int all(int fd, uint64_t offset, uint64_t len,
	int (*run)(void *arg, uint64_t offset, uint64_t bytes), void *arg)
{
	(void)fd;
	return run(arg, offset, len);
}

// All but one region, whose pages go through slots.
static void register_memory(void)
{
	bool which[REGION_MAX];
	struct err e;
	int rc;

	for (unsigned i = 0; i < p.to.n; i++) {
		which[i] = i != 1;
		memset(p.to.r[i].base, 0, p.to.r[i].bytes);
		assert_int_equal(recv_job_pin(&p.recv_job, i, NULL), 0);
	}
	recv_job_populated(&p.recv_job);
	assert_int_equal(link_rdma_memory_new(&memory, domain[1], &p.to, which, &e), 0);
	while ((rc = link_rdma_memory_ready(memory, &e)) == 0)
		look();
	if (rc < 0)
		fail_msg("%s", e.text);
	for (unsigned i = 0; i < p.to.n; i++)
		link_rdma_memory_key(memory, i, 0, &keys[i]);
	// Not waited for: what is not there yet is copied.
	assert_int_equal(link_rdma_memory_lend(&lent, domain[0], &p.from, all, &e), 0);
}

static void *run_core(void *arg)
{
	struct core *c = arg;

	while (!atomic_load_explicit(&c->stop, memory_order_relaxed)) {
		atomic_store(&c->saw, atomic_load(&passes));
		if (!flow_poll(c->flow))
			usleep(100);
	}
	return NULL;
}

static void start_flows(void)
{
	for (unsigned k = 0; k < PAIR_FLOWS; k++) {
		link_rdma_direct(up[0][k], keys);
		link_rdma_direct(up[1][k], NULL);
		link_rdma_read(up[0][k], lent);
		assert_int_equal(flow_send_new(&p.send[k], &p.send_job, up[0][k], 1, -1, NULL), 0);
		assert_int_equal(flow_recv_new(&p.recv[k], &p.recv_job, up[1][k], 2, -1, NULL), 0);
		core[2 * k].flow = p.send[k];
		core[2 * k + 1].flow = p.recv[k];
	}
	for (unsigned i = 0; i < 2 * PAIR_FLOWS; i++)
		assert_int_equal(pthread_create(&core[i].thread, NULL, run_core, &core[i]), 0);
}

static void wait_pass(uint32_t pass)
{
	uint64_t end = clock_ns() + WAIT_NS;
	bool all = false;

	while (!all) {
		all = true;
		for (unsigned i = 0; i < 2 * PAIR_FLOWS; i++) {
			struct flow *f = core[i].flow;

			if (atomic_load_explicit(&f->error, memory_order_acquire) != 0)
				fail_msg("flow: %s", f->why.text);
			all &= atomic_load_explicit(&f->done_pass, memory_order_acquire) == pass;
		}
		look();
		if (clock_ns() > end)
			fail_msg("pass %u does not end", pass);
	}
}

static void hand_over(void)
{
	atomic_fetch_add(&passes, 1);
	for (unsigned i = 0; i < 2 * PAIR_FLOWS; i++)
		while (atomic_load(&core[i].saw) != atomic_load(&passes))
			look();
}

// As a session lets go: cores first, then queue pairs, the device's hold on memory, and holes.
static void let_go(void)
{
	int rc;

	for (unsigned i = 0; i < 2 * PAIR_FLOWS; i++) {
		atomic_store_explicit(&core[i].stop, true, memory_order_relaxed);
		assert_int_equal(pthread_join(core[i].thread, NULL), 0);
		flow_free(core[i].flow);
	}
	memset(p.send, 0, sizeof(p.send));
	memset(p.recv, 0, sizeof(p.recv));
	link_rdma_memory_end(memory);
	while (!link_rdma_memory_ended(memory))
		look();
	link_rdma_memory_free(memory);
	while ((rc = recv_job_release(&p.recv_job, NULL)) == 0)
		look();
	assert_int_equal(rc, 1);
	link_rdma_memory_free(lent);
	for (unsigned i = 0; i < 2; i++)
		link_rdma_domain_free(domain[i]);
	link_rdma_host_close(host[0]);
	link_rdma_host_close(host[1]);
}

static void moves(void **state)
{
	const uint64_t sizes[] = {200, 64, 1, 301};
	struct seed s = {.state = 7};

	(void)state;
	open_hosts();
	pair_open(&p, sizes, 4, NULL, 1);
	register_memory();
	connect_flows();
	start_flows();
	for (uint32_t pass = 0; pass < PASSES; pass++) {
		pair_fill(&p, &s);
		pair_populated(&p.from, p.dirty.set);
		pair_publish(&p, pass);
		wait_pass(pass);
		hand_over();
		pair_finish_pass(&p);
		for (unsigned i = 0; i < p.from.n; i++)
			assert_memory_equal(p.from.r[i].base, p.to.r[i].base, p.from.r[i].bytes);
	}
	let_go();
	pair_close(&p);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moves),
	};

	if (argc != 2)
		return 2;
	address = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
