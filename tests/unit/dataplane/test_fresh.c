// SPDX-License-Identifier: BSD-3-Clause
// First content of fresh pages: exactly the named ones get memory, and a file that can't take a
// write is left as it is, for the caller's way through the mapping.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fresh.h"

#define PAGES 300u

static struct region_map map;
static struct region *r;
static uint8_t pages[CHUNK_BYTES];

static int setup(void **state)
{
	int fd = memfd_create("fresh", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	(void)state;
	region_map_init(&map);
	memset(pages, 0x5a, sizeof(pages));
	if (fd < 0 || ftruncate(fd, (off_t)(PAGES * PAGE_BYTES)) != 0 ||
		region_add(&map, "ram", fd, PAGES * PAGE_BYTES, 4096, NULL) != 0)
		return -1;
	r = &map.r[0];
	return region_mmap(r, true, NULL);
}

static int teardown(void **state)
{
	(void)state;
	region_map_close(&map);
	return 0;
}

static uint64_t populated(void)
{
	struct stat st;

	assert_int_equal(fstat(r->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512 / PAGE_BYTES;
}

static void alone_writes_the_file(void **state)
{
	(void)state;
	assert_true(fresh_write(r, 7 * PAGE_BYTES, pages, 64 * PAGE_BYTES, true));
	assert_true(fresh_write(r, 299 * PAGE_BYTES, pages, PAGE_BYTES, true));
	assert_int_equal(populated(), 65);
	assert_memory_equal(r->base + 7 * PAGE_BYTES, pages, 64 * PAGE_BYTES);
	assert_memory_equal(r->base + 299 * PAGE_BYTES, pages, PAGE_BYTES);
}

static void among_others_it_populates(void **state)
{
	static const uint8_t zeros[16 * PAGE_BYTES];

	(void)state;
	assert_false(fresh_write(r, 9 * PAGE_BYTES, pages, 16 * PAGE_BYTES, false));
	assert_int_equal(populated(), 16);
	assert_memory_equal(r->base + 9 * PAGE_BYTES, zeros, sizeof(zeros));
}

// A write would make it grow over what is lost: the caller's fault is to say so.
static void a_file_that_shrank_stays_short(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(ftruncate(r->fd, 100 * PAGE_BYTES), 0);
	assert_false(fresh_write(r, 200 * PAGE_BYTES, pages, PAGE_BYTES, true));
	assert_false(fresh_write(r, 50 * PAGE_BYTES, pages, PAGE_BYTES, true));
	assert_int_equal(fstat(r->fd, &st), 0);
	assert_int_equal(st.st_size, 100 * PAGE_BYTES);
	assert_int_equal(st.st_blocks, 0);
}

static void what_takes_no_write_is_left(void **state)
{
	(void)state;
	r->page_bytes = 2u << 20;
	assert_false(fresh_write(r, 0, pages, 8 * PAGE_BYTES, true));
	assert_false(fresh_write(r, 0, pages, 8 * PAGE_BYTES, false));
	r->page_bytes = 4096;
	assert_int_equal(populated(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(alone_writes_the_file, setup, teardown),
		cmocka_unit_test_setup_teardown(among_others_it_populates, setup, teardown),
		cmocka_unit_test_setup_teardown(a_file_that_shrank_stays_short, setup, teardown),
		cmocka_unit_test_setup_teardown(what_takes_no_write_is_left, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
