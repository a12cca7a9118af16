// SPDX-License-Identifier: BSD-3-Clause
// The source's memory, lent to a device by windows: only what is there, as much as the device
// takes; and the domain of the session that it is in.

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_verbs.h"
#include "link_rdma_end.h"

static struct fake_end e[2];
static struct link_rdma_host host;
static struct region_map map; // a small one, a large one
static struct rdma_cm_id device;
static struct link_rdma_domain *domain;
static struct link_rdma_memory *m;

static int begin(void **state)
{
	const uint64_t bytes[] = {CHUNK_BYTES, 2 * RDMA_WINDOW_BYTES + 3 * CHUNK_BYTES};
	static const char *const names[] = {"small", "large"};

	(void)state;
	fake_pair(&e[0], &e[1]);
	memset(&host, 0, sizeof(host));
	host.v = &verbs_fake;
	host.info.most_mr = UINT64_MAX;
	device.verbs = (struct ibv_context *)&e[1];
	host.listener = &device;
	assert_int_equal(link_rdma_domain_new(&domain, &host, NULL), 0);
	region_map_init(&map);
	for (int i = 0; i < 2; i++) {
		int fd = memfd_create(names[i], MFD_CLOEXEC);

		assert_return_code(ftruncate(fd, (off_t)bytes[i]), errno);
		assert_int_equal(region_add(&map, names[i], fd, bytes[i], PAGE_BYTES, NULL), i);
		assert_int_equal(region_mmap(&map.r[i], false, NULL), 0);
	}
	return 0;
}

static int end(void **state)
{
	(void)state;
	link_rdma_memory_free(m);
	m = NULL;
	link_rdma_domain_free(domain);
	rdma_memory_reap(&host, true);
	assert_int_equal(e[1].pds, 0);
	for (unsigned i = 0; i < e[1].mrs; i++)
		assert_null(e[1].mr[i].addr);
	region_map_close(&map);
	fake_free(&e[0]);
	fake_free(&e[1]);
	return 0;
}

static int wait_ready(void)
{
	int rc;

	while ((rc = link_rdma_memory_ready(m, NULL)) == 0)
		sched_yield();
	return rc;
}

static struct {
	uint64_t offset, bytes;
} runs[8];

// As a file would tell what is there of [offset, offset + len).
static int walk(int fd, uint64_t offset, uint64_t len,
	int (*run)(void *arg, uint64_t offset, uint64_t bytes), void *arg)
{
	assert_true(fcntl(fd, F_GETFD) >= 0);
	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]) && runs[i].bytes > 0; i++) {
		uint64_t from = runs[i].offset > offset ? runs[i].offset : offset;
		uint64_t to = runs[i].offset + runs[i].bytes;

		to = to < offset + len ? to : offset + len;
		if (from < to && run(arg, from, to - from) != 0)
			return -EIO;
	}
	return 0;
}

static bool reads(unsigned region, uint64_t page, unsigned n)
{
	const uint8_t *at = map.r[region].base + page * PAGE_BYTES;
	uint32_t lkey = 0;

	return rdma_memory_read(
		       m, region, (uint32_t)(page / CHUNK_PAGES), at, at + n * PAGE_BYTES, &lkey) &&
	       lkey != 0;
}

#define WINDOW_PAGES (RDMA_WINDOW_BYTES >> PAGE_SHIFT)

// Of each window the longest run that is there is read, and no hole: that would be allocated.
static void holes_are_not_lent(void **state)
{
	struct link_rdma_registered figures;
	struct stat st;

	(void)state;
	memset(runs, 0, sizeof(runs));
	runs[0].offset = PAGE_BYTES;
	runs[0].bytes = 2 * CHUNK_BYTES; // told in two pieces
	runs[1].offset = runs[0].offset + runs[0].bytes;
	runs[1].bytes = PAGE_BYTES;
	runs[2].offset = 5 * CHUNK_BYTES;
	runs[2].bytes = 2 * CHUNK_BYTES;
	runs[3].offset = RDMA_WINDOW_BYTES + PAGE_BYTES;
	runs[3].bytes = CHUNK_BYTES - PAGE_BYTES; // too short
	runs[4].offset = 2 * RDMA_WINDOW_BYTES - CHUNK_BYTES;
	runs[4].bytes = 4 * CHUNK_BYTES; // reaches into the next window
	assert_int_equal(link_rdma_memory_lend(&m, domain, &map, walk, NULL), 0);
	assert_int_equal(wait_ready(), 1);
	link_rdma_memory_figures(m, &figures);
	assert_int_equal(
		figures.bytes, 2 * CHUNK_BYTES + PAGE_BYTES + CHUNK_BYTES + 3 * CHUNK_BYTES);
	assert_int_equal(figures.refused, 0);
	for (unsigned i = 0; i < e[1].mrs; i++)
		assert_int_equal(e[1].access[i], 0);
	assert_false(reads(1, 0, 2));
	assert_true(reads(1, 1, 63) && reads(1, 128, 2));
	assert_false(reads(1, 128, 3) || reads(1, 5 * CHUNK_PAGES, 1));
	assert_false(reads(1, WINDOW_PAGES + 1, 1));
	assert_true(reads(1, 2 * WINDOW_PAGES - 64, 64) && reads(1, 2 * WINDOW_PAGES, 64));
	assert_false(reads(0, 1, 1)); // shorter than what is worth it
	assert_return_code(fstat(map.r[1].fd, &st), errno);
	assert_int_equal(st.st_blocks, 0);
}

// A device that takes no more: what it has is read, the rest is copied, and that is told.
static void what_is_refused_is_copied(void **state)
{
	struct link_rdma_registered figures;

	(void)state;
	memset(runs, 0, sizeof(runs));
	runs[0].bytes = 2 * RDMA_WINDOW_BYTES;
	e[1].reg_errno = ENOMEM;
	e[1].reg_good = 2; // the small one, and a window
	assert_int_equal(link_rdma_memory_lend(&m, domain, &map, walk, NULL), 0);
	assert_int_equal(wait_ready(), 1);
	link_rdma_memory_figures(m, &figures);
	assert_int_equal(figures.refused, ENOMEM);
	assert_int_equal(figures.bytes, CHUNK_BYTES + RDMA_WINDOW_BYTES);
	assert_true(reads(0, 0, 64) && reads(1, 0, 64));
	assert_false(reads(1, WINDOW_PAGES, 64));
}

// With pages on demand nothing is locked: the device is told to look ahead, and its refusal to do
// so costs nothing.
static void pages_on_demand(void **state)
{
	const bool which[REGION_MAX] = {true, true};

	(void)state;
	host.cfg.on_demand = true;
	memset(runs, 0, sizeof(runs));
	runs[0].bytes = map.r[1].bytes;
	assert_int_equal(link_rdma_memory_lend(&m, domain, &map, walk, NULL), 0);
	assert_int_equal(wait_ready(), 1);
	for (unsigned i = 0; i < e[1].mrs; i++)
		assert_int_equal(e[1].access[i], IBV_ACCESS_ON_DEMAND);
	assert_int_equal(e[1].advised_bytes, map.bytes);
	link_rdma_memory_end(m);
	while (!link_rdma_memory_ended(m))
		sched_yield();
	link_rdma_memory_free(m);
	e[1].advised_bytes = e[1].mrs = 0;
	e[1].advise_errno = EOPNOTSUPP;
	assert_int_equal(link_rdma_memory_new(&m, domain, &map, which, NULL), 0);
	assert_int_equal(wait_ready(), 1);
	assert_int_equal(e[1].access[0],
		IBV_ACCESS_ON_DEMAND | IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	assert_true(e[1].advised_bytes > 0);
	assert_int_equal(e[1].advised_wrong, 0);
}

// What a device does not take at a time it gets in windows, each with its key.
static void large_regions_have_windows(void **state)
{
	const bool which[REGION_MAX] = {true, true};
	struct link_rdma_key k;
	uint64_t bytes;

	(void)state;
	host.info.most_mr = RDMA_WINDOW_BYTES + RDMA_WINDOW_BYTES / 2;
	assert_int_equal(link_rdma_memory_new(&m, domain, &map, which, NULL), 0);
	assert_int_equal(wait_ready(), 1);
	assert_int_equal(link_rdma_memory_windows(m, 0, &bytes), 1);
	assert_int_equal(link_rdma_memory_windows(m, 1, &bytes), 3);
	assert_int_equal(bytes, RDMA_WINDOW_BYTES);
	for (uint32_t w = 0; w < 3; w++) {
		assert_true(link_rdma_memory_key(m, 1, w, &k));
		assert_int_equal(k.addr, (uintptr_t)map.r[1].base + w * RDMA_WINDOW_BYTES);
		assert_int_equal(
			e[1].mr[1 + w].length, w < 2 ? RDMA_WINDOW_BYTES : 3 * CHUNK_BYTES);
	}
	assert_false(link_rdma_memory_key(m, 1, 3, &k));
}

// A session that ends takes its domain along, when nothing is left in it.
static void domain_lives_as_long_as_memory(void **state)
{
	const bool which[REGION_MAX] = {true};
	struct link_rdma_domain *other;

	(void)state;
	assert_int_equal(link_rdma_domain_new(&other, &host, NULL), 0);
	assert_int_equal(e[1].pds, 2);
	assert_ptr_not_equal(other->pd, domain->pd);
	assert_int_equal(link_rdma_memory_new(&m, other, &map, which, NULL), 0);
	assert_int_equal(wait_ready(), 1);
	assert_ptr_equal(e[1].mr[0].pd, other->pd);
	link_rdma_domain_free(other);
	assert_int_equal(e[1].pds, 2);
	link_rdma_memory_free(m);
	m = NULL;
	rdma_memory_reap(&host, true);
	assert_int_equal(e[1].pds, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(holes_are_not_lent, begin, end),
		cmocka_unit_test_setup_teardown(what_is_refused_is_copied, begin, end),
		cmocka_unit_test_setup_teardown(pages_on_demand, begin, end),
		cmocka_unit_test_setup_teardown(large_regions_have_windows, begin, end),
		cmocka_unit_test_setup_teardown(domain_lives_as_long_as_memory, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
