// SPDX-License-Identifier: BSD-3-Clause
// The thread that makes holes: what is done reads as zeros and costs nothing, a full queue says so,
// several producers lose nothing.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "punch.h"
#include "punch_ring.h"

#define PAGES 4096u

static struct region_map map;

static int setup(void **state)
{
	int fd = memfd_create("punch", MFD_CLOEXEC);

	(void)state;
	region_map_init(&map);
	if (fd < 0 || ftruncate(fd, PAGES * PAGE_BYTES) != 0)
		return -1;
	if (region_add(&map, "ram", fd, PAGES * PAGE_BYTES, 4096, NULL) != 0)
		return -1;
	return region_mmap(&map.r[0], true, NULL);
}

static int teardown(void **state)
{
	(void)state;
	region_map_close(&map);
	return 0;
}

static uint64_t populated_pages(void)
{
	struct stat st;

	assert_int_equal(fstat(map.r[0].fd, &st), 0);
	return (uint64_t)st.st_blocks * 512 / PAGE_BYTES;
}

static void wait_done(struct punch *p)
{
	uint64_t ticket = punch_ticket(p);

	while (!punch_done(p, ticket))
		sched_yield();
}

static void holes_are_made(void **state)
{
	struct punch *p;

	(void)state;
	memset(map.r[0].base, 7, PAGES * PAGE_BYTES);
	assert_int_equal(populated_pages(), PAGES);
	assert_int_equal(punch_new(&p, &map, NULL), 0);
	assert_int_equal(punch_ticket(p), 0);
	assert_true(punch_done(p, 0));
	assert_true(punch_queue(p, 0, 10, 1));
	assert_true(punch_queue(p, 0, 100, 200));
	assert_int_equal(punch_ticket(p), 2);
	wait_done(p);
	assert_int_equal(punch_error(p), 0);
	assert_int_equal(populated_pages(), PAGES - 201);
	assert_int_equal(map.r[0].base[9 * PAGE_BYTES], 7);
	assert_int_equal(map.r[0].base[11 * PAGE_BYTES - 1], 0);
	assert_int_equal(map.r[0].base[11 * PAGE_BYTES], 7);
	punch_free(p);
}

// A session that was cancelled does not wait for holes that nobody needs any more.
static void free_drops_what_is_queued(void **state)
{
	struct punch *p;

	(void)state;
	memset(map.r[0].base, 7, PAGES * PAGE_BYTES);
	assert_int_equal(punch_new(&p, &map, NULL), 0);
	for (unsigned i = 0; i < 1000; i++)
		assert_true(punch_queue(p, 0, 2 * i, 1));
	punch_free(p);
	assert_true(populated_pages() >= PAGES - 1000);
	punch_free(NULL);
}

static void a_file_that_cannot_be_punched_is_told(void **state)
{
	struct punch *p;
	int fd = map.r[0].fd;

	(void)state;
	assert_int_equal(punch_new(&p, &map, NULL), 0);
	map.r[0].fd = -1;
	assert_true(punch_queue(p, 0, 0, 1));
	wait_done(p);
	assert_int_equal(punch_error(p), EBADF);
	punch_free(p);
	map.r[0].fd = fd;
}

// Large backing pages are given back whole; the ends are written with zeros. A plain memfd stands
// in: whole blocks become holes, the ends stay populated.
static void large_pages_are_zeroed_at_the_ends(void **state)
{
	const uint64_t large = (2u << 20) / PAGE_BYTES;
	struct punch *p;

	(void)state;
	memset(map.r[0].base, 7, PAGES * PAGE_BYTES);
	map.r[0].page_bytes = 2u << 20;
	assert_int_equal(punch_new(&p, &map, NULL), 0);
	assert_true(punch_queue(p, 0, large - 1, large + 2));
	assert_true(punch_queue(p, 0, 3 * large + 5, 1));
	wait_done(p);
	punch_free(p);
	map.r[0].page_bytes = 4096;
	assert_int_equal(populated_pages(), PAGES - large);
	assert_int_equal(map.r[0].base[(large - 1) * PAGE_BYTES - 1], 7);
	for (uint64_t i = (large - 1) * PAGE_BYTES; i < (2 * large + 1) * PAGE_BYTES; i++)
		assert_int_equal(map.r[0].base[i], 0);
	assert_int_equal(map.r[0].base[(2 * large + 1) * PAGE_BYTES], 7);
	assert_int_equal(map.r[0].base[(3 * large + 5) * PAGE_BYTES + 1], 0);
	assert_int_equal(map.r[0].base[(3 * large + 6) * PAGE_BYTES], 7);
}

static struct punch *new_ring(void)
{
	struct punch *p = aligned_alloc(CACHE_LINE, sizeof(*p));

	assert_non_null(p);
	memset(p, 0, sizeof(*p));
	punch_ring_init(p);
	return p;
}

static void full_queue_says_so(void **state)
{
	struct punch *p = new_ring();
	struct punch_hole h;

	(void)state;
	for (unsigned lap = 0; lap < 3; lap++) {
		for (uint64_t i = 0; i < PUNCH_RING; i++)
			assert_true(punch_queue(p, 1, i, lap));
		assert_false(punch_queue(p, 1, 0, 0));
		for (uint64_t i = 0; i < PUNCH_RING; i++) {
			assert_true(punch_ring_next(p, &h));
			assert_int_equal(h.page, i);
			assert_int_equal(h.n, lap);
			assert_false(punch_done(p, lap * PUNCH_RING + i + 1));
			punch_ring_finish(p);
			assert_true(punch_done(p, lap * PUNCH_RING + i + 1));
		}
		assert_false(punch_ring_next(p, &h));
	}
	free(p);
}

#define PRODUCERS 3u
#define EACH      100000u

static void *produce(void *arg)
{
	static _Atomic unsigned next;
	uint16_t me = (uint16_t)atomic_fetch_add(&next, 1);
	struct punch *p = arg;

	for (uint64_t i = 0; i < EACH; i++)
		while (!punch_queue(p, me, i, i * 3))
			sched_yield();
	return NULL;
}

static void producers_lose_nothing(void **state)
{
	struct punch *p = new_ring();
	pthread_t thread[PRODUCERS];
	uint64_t next[PRODUCERS] = {0};
	struct punch_hole h;

	(void)state;
	for (unsigned i = 0; i < PRODUCERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, produce, p), 0);
	for (uint64_t n = 0; n < (uint64_t)PRODUCERS * EACH;) {
		if (!punch_ring_next(p, &h)) {
			sched_yield();
			continue;
		}
		assert_true(h.region < PRODUCERS);
		assert_true(h.page == next[h.region]++);
		assert_true(h.n == h.page * 3);
		punch_ring_finish(p);
		n++;
	}
	for (unsigned i = 0; i < PRODUCERS; i++)
		pthread_join(thread[i], NULL);
	assert_true(punch_done(p, punch_ticket(p)));
	free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holes_are_made),
		cmocka_unit_test(free_drops_what_is_queued),
		cmocka_unit_test(a_file_that_cannot_be_punched_is_told),
		cmocka_unit_test(large_pages_are_zeroed_at_the_ends),
		cmocka_unit_test(full_queue_says_so),
		cmocka_unit_test(producers_lose_nothing),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
