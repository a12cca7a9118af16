// SPDX-License-Identifier: BSD-3-Clause
// Guest memory is registered and given back by a thread of its own, whatever fails and whenever the
// session ends; locked memory is asked for before; and what a device says of itself reaches the
// flows that it is about.

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_verbs.h"
#include "link_rdma_end.h"
#include "locked.h"

#define REGIONS      3u
#define REGION_BYTES CHUNK_BYTES

static struct fake_end e[2];
static struct link_rdma_host host;
static struct region_map map;
static struct rdma_cm_id device;
static struct link_rdma_domain *domain;
static struct link_rdma_memory *m;

static int begin(void **state)
{
	static const char *const names[REGIONS] = {"low", "high", "rom"};

	(void)state;
	fake_pair(&e[0], &e[1]);
	memset(&host, 0, sizeof(host));
	host.v = &verbs_fake;
	host.info.most_mr = UINT64_MAX;
	device.verbs = (struct ibv_context *)&e[1];
	host.listener = &device;
	LIST_INIT(&host.memories);
	LIST_INIT(&host.domains);
	assert_int_equal(link_rdma_domain_new(&domain, &host, NULL), 0);
	region_map_init(&map);
	for (unsigned i = 0; i < REGIONS; i++) {
		int fd = memfd_create(names[i], MFD_CLOEXEC);

		assert_return_code(ftruncate(fd, REGION_BYTES), errno);
		assert_int_equal(
			region_add(&map, names[i], fd, REGION_BYTES, PAGE_BYTES, NULL), (int)i);
		assert_int_equal(region_mmap(&map.r[i], true, NULL), 0);
	}
	return 0;
}

static unsigned registered(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < e[1].mrs; i++)
		n += e[1].mr[i].addr != NULL;
	return n;
}

static int end(void **state)
{
	(void)state;
	link_rdma_memory_free(m);
	m = NULL;
	link_rdma_domain_free(domain);
	rdma_memory_reap(&host, true);
	assert_int_equal(e[1].pds, 0);
	assert_true(LIST_EMPTY(&host.memories));
	assert_int_equal(registered(), 0);
	region_map_close(&map);
	fake_free(&e[0]);
	fake_free(&e[1]);
	return 0;
}

static int wait_ready(struct err *why)
{
	int rc;

	while ((rc = link_rdma_memory_ready(m, why)) == 0)
		sched_yield();
	return rc;
}

static void is_registered_and_given_back(void **state)
{
	const bool which[REGION_MAX] = {true, false, true};
	struct link_rdma_registered figures;
	struct link_rdma_key k;

	(void)state;
	assert_int_equal(link_rdma_memory_new(&m, domain, &map, which, NULL), 0);
	assert_int_equal(wait_ready(NULL), 1);
	assert_int_equal(registered(), 2);
	for (unsigned i = 0; i < REGIONS; i++) {
		assert_int_equal(link_rdma_memory_key(m, i, 0, &k), which[i]);
		assert_int_equal(k.addr, which[i] ? (uintptr_t)map.r[i].base : 0);
	}
	assert_false(link_rdma_memory_ended(m));
	link_rdma_memory_end(m);
	link_rdma_memory_end(m);
	while (!link_rdma_memory_ended(m))
		sched_yield();
	assert_int_equal(registered(), 0);
	link_rdma_memory_figures(m, &figures);
	assert_int_equal(figures.bytes, 2 * REGION_BYTES);
	assert_true(figures.register_ns > 0 && figures.deregister_ns > 0);
	link_rdma_memory_free(m);
	m = NULL;
	assert_non_null(map.r[0].base); // the session's still
}

// What was registered before is given back, and the sentence names the limit.
static void second_can_not_be(void **state)
{
	const bool which[REGION_MAX] = {true, true, true};
	struct rlimit before, low;
	struct err why;

	(void)state;
	assert_return_code(getrlimit(RLIMIT_MEMLOCK, &before), errno);
	low = before;
	low.rlim_cur = before.rlim_max < 1 << 20 ? before.rlim_max : 1 << 20;
	e[1].reg_errno = ENOMEM;
	e[1].reg_good = 1;
	assert_int_equal(link_rdma_memory_new(&m, domain, &map, which, NULL), 0);
	assert_return_code(setrlimit(RLIMIT_MEMLOCK, &low), errno);
	assert_int_equal(wait_ready(&why), -ENOMEM);
	assert_return_code(setrlimit(RLIMIT_MEMLOCK, &before), errno);
	assert_non_null(strstr(why.text, "region high"));
	assert_non_null(strstr(why.text, "RLIMIT_MEMLOCK"));
	assert_int_equal(registered(), 0);
	assert_true(link_rdma_memory_ended(m));
	link_rdma_memory_free(m);
	m = NULL;
	assert_non_null(map.r[0].base);
}

static bool is_mapped(const uint8_t *at)
{
	unsigned char there;

	return mincore((void *)(uintptr_t)at, PAGE_BYTES, &there) == 0;
}

// The session has ended meanwhile: nothing waits, and what is registered stays mapped until it is
// not.
static void ends_while_at_work(void **state)
{
	const bool which[REGION_MAX] = {true, false, true};
	const uint8_t *was[REGIONS];
	sem_t gate;

	(void)state;
	sem_init(&gate, 0, 0);
	e[1].reg_wait = &gate;
	for (unsigned i = 0; i < REGIONS; i++)
		was[i] = map.r[i].base;
	assert_int_equal(link_rdma_memory_new(&m, domain, &map, which, NULL), 0);
	while (atomic_load(&e[1].reg_calls) == 0)
		sched_yield();
	assert_int_equal(link_rdma_memory_ready(m, NULL), 0);
	link_rdma_memory_free(m);
	m = NULL;
	assert_true(map.r[0].base == NULL && map.r[1].base != NULL && map.r[2].base == NULL);
	assert_true(is_mapped(was[0]) && is_mapped(was[2]));
	rdma_memory_reap(&host, false);
	assert_false(LIST_EMPTY(&host.memories));
	sem_post(&gate);
	rdma_memory_reap(&host, true);
	assert_int_equal(registered(), 0);
	assert_int_equal(e[1].mrs, 1); // the other one was not begun
	assert_false(is_mapped(was[0]) || is_mapped(was[2]));
	sem_destroy(&gate);
}

static void ends_when_registered(void **state)
{
	const bool which[REGION_MAX] = {true, true, true};

	(void)state;
	assert_int_equal(link_rdma_memory_new(&m, domain, &map, which, NULL), 0);
	assert_int_equal(wait_ready(NULL), 1);
	link_rdma_memory_free(m);
	m = NULL;
}

static void tell(const char *root, const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/proc/self/%s", root, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

// Windows of so many MiB, beside two flows twice, of a guest whose pages are least bytes, and of a
// device that takes most; 0: too few of them can be locked.
static void turns_of(const char *root, uint64_t mib, uint64_t least, uint64_t most,
	uint64_t window_mib, uint32_t windows)
{
	uint64_t window = 0;
	uint32_t n = 0;
	char text[64];

	snprintf(text, sizeof(text), "Max locked memory %llu\n",
		4ull * (link_rdma_locked_bytes() + (512u << 10)) + (mib << 20));
	tell(root, "limits", text);
	assert_int_equal(link_rdma_locked_turns(root, 2, least, most, &window, &n), windows != 0);
	assert_int_equal(window, window_mib << 20);
	assert_int_equal(n, windows);
}

static void turns_that_fit(const char *root)
{
	const uint64_t chunk = 4 << 20, huge = 1 << 30;

	turns_of(root, 0, chunk, UINT64_MAX, 0, 0);
	turns_of(root, 15, chunk, UINT64_MAX, 0, 0);
	turns_of(root, 16, chunk, UINT64_MAX, 4, 4);
	turns_of(root, 130, chunk, UINT64_MAX, 16, 8);
	turns_of(root, 1000, chunk, UINT64_MAX, 64, 15);
	turns_of(root, 1000, chunk, 40 << 20, 32, 31);
	turns_of(root, 1000, chunk, 2 << 20, 0, 0);
	turns_of(root, 1000, huge, UINT64_MAX, 0, 0);
	turns_of(root, 5000, huge, UINT64_MAX, 1024, 4);
	turns_of(root, 5000, huge, huge / 2, 0, 0);
}

static void locked_memory_is_asked_for(void **state)
{
	char root[] = "/tmp/godwit-locked.XXXXXX", text[256];
	struct err why;

	(void)state;
	assert_non_null(mkdtemp(root));
	snprintf(text, sizeof(text), "mkdir -p %s/proc/self", root);
	assert_int_equal(system(text), 0);
	tell(root, "status", "Name:\tx\nVmPin:\t       0 kB\nCapEff:\t0000000000000000\n");
	tell(root, "limits", "Max locked memory         unlimited   unlimited   bytes\n");
	assert_int_equal(link_rdma_locked_check(root, 2, UINT64_C(1) << 40, &why), 0);
	snprintf(text, sizeof(text),
		"Max file size             unlimited   unlimited   bytes\n"
		"Max locked memory         %llu        unlimited   bytes\n",
		2ull * link_rdma_locked_bytes());
	tell(root, "limits", text);
	assert_int_equal(link_rdma_locked_check(root, 2, 0, &why), 0);
	assert_int_equal(link_rdma_locked_check(root, 3, 0, &why), -ENOMEM);
	assert_non_null(strstr(why.text, "3 flows"));
	assert_non_null(strstr(why.text, "RLIMIT_MEMLOCK"));
	assert_int_equal(link_rdma_locked_check(root, 2, UINT64_C(7) << 20, &why), -ENOMEM);
	assert_non_null(strstr(why.text, "the guest's memory 7 MiB"));
	// What other sessions have counts.
	tell(root, "status", "VmPin:\t     100 kB\nCapEff:\t0000000000000000\n");
	assert_int_equal(link_rdma_locked_check(root, 1, 0, &why), 0);
	assert_int_equal(link_rdma_locked_check(root, 2, 0, &why), -ENOMEM);
	// What is locked otherwise does not: the kernel adds nothing of it.
	tell(root, "status", "VmLck:\t 9000000 kB\nVmPin:\t       0 kB\nCapEff:\t0\n");
	assert_int_equal(link_rdma_locked_check(root, 2, 0, &why), 0);
	assert_int_equal(locked_left_bytes(root, LOCKED_BY_VFIO), 0);
	turns_that_fit(root);
	// CAP_IPC_LOCK has no limit.
	tell(root, "status", "VmPin:\t     100 kB\nCapEff:\t0000000000004000\n");
	assert_int_equal(link_rdma_locked_check(root, 2, UINT64_C(1) << 40, &why), 0);
	snprintf(text, sizeof(text), "rm -r %s", root);
	assert_int_equal(system(text), 0);
}

// What the device says of itself reaches the flows that it is about.
static void device_speaks(void **state)
{
	static const struct {
		enum ibv_event_type type;
		bool mine; // its port, queue pair or completion queue
		int errnum;
		const char *text;
	} rows[] = {
		{IBV_EVENT_PORT_ERR, true, ENETDOWN, "port went down"},
		{IBV_EVENT_PORT_ERR, false, 0, ""},
		{IBV_EVENT_QP_FATAL, true, ECONNRESET, "gave the queue pair up"},
		{IBV_EVENT_QP_FATAL, false, 0, ""},
		{IBV_EVENT_QP_REQ_ERR, true, ECONNRESET, "gave the queue pair up"},
		{IBV_EVENT_QP_ACCESS_ERR, true, EACCES, "wrote to memory that it may not"},
		{IBV_EVENT_QP_ACCESS_ERR, false, 0, ""},
		{IBV_EVENT_CQ_ERR, true, ECONNRESET, "gave the queue pair up"},
		{IBV_EVENT_DEVICE_FATAL, true, ENODEV, "was removed"},
		{IBV_EVENT_PORT_ACTIVE, true, 0, ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct rdma_cm_id listener = {.port_num = 3}, id = {0};
		struct link_rdma_host h = {.listener = &listener};
		struct link_rdma_end d = {.state = RDMA_END_UP, .id = &id, .host = &h};
		struct link *l[2];
		struct ibv_async_event ev = {.event_type = rows[i].type};

		fake_links(e, l, RDMA_MESSAGE_BYTES);
		d.qp = &e[0].qp;
		d.cq = &e[0].cq;
		d.link = l[0];
		LIST_INSERT_HEAD(&h.ends, &d, next);
		if (rows[i].type == IBV_EVENT_PORT_ERR || rows[i].type == IBV_EVENT_PORT_ACTIVE)
			ev.element.port_num = rows[i].mine ? 3 : 4;
		else if (rows[i].type == IBV_EVENT_CQ_ERR)
			ev.element.cq = &e[!rows[i].mine].cq;
		else
			ev.element.qp = &e[!rows[i].mine].qp;
		rdma_host_said(&h, &ev);
		if (rows[i].errnum != 0) // the peer hears of it, and leaves
			link_rdma_over(rdma_of(l[0]), EPIPE);
		l[0]->ops->poll(l[0]);
		assert_int_equal(link_rdma_host_gone(&h), rows[i].type == IBV_EVENT_DEVICE_FATAL);
		assert_int_equal(l[0]->error, rows[i].errnum);
		assert_true(rows[i].errnum == 0 || strstr(l[0]->why.text, rows[i].text) != NULL);
		for (unsigned k = 0; k < 2; k++) {
			l[k]->ops->close(l[k]);
			fake_free(&e[k]);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(is_registered_and_given_back, begin, end),
		cmocka_unit_test_setup_teardown(second_can_not_be, begin, end),
		cmocka_unit_test_setup_teardown(ends_while_at_work, begin, end),
		cmocka_unit_test_setup_teardown(ends_when_registered, begin, end),
		cmocka_unit_test(locked_memory_is_asked_for),
		cmocka_unit_test(device_speaks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
