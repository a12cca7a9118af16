// SPDX-License-Identifier: BSD-3-Clause
// Regions: what may be added, how chunks are numbered, what the last one holds.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>

#include "region.h"

static struct region_map map;

static int setup(void **state)
{
	(void)state;
	region_map_init(&map);
	return 0;
}

static void chunks_are_numbered_through(void **state)
{
	(void)state;
	assert_int_equal(region_add(&map, "low", -1, 10 * CHUNK_BYTES, 4096, NULL), 0);
	assert_int_equal(region_add(&map, "odd", -1, CHUNK_BYTES + PAGE_BYTES, 4096, NULL), 1);
	assert_int_equal(region_add(&map, "one", -1, PAGE_BYTES, 4096, NULL), 2);
	assert_int_equal(map.nchunks, 13);
	assert_int_equal(map.r[1].first_chunk, 10);
	assert_int_equal(map.r[1].nchunks, 2);
	assert_ptr_equal(region_of_chunk(&map, 0), &map.r[0]);
	assert_ptr_equal(region_of_chunk(&map, 9), &map.r[0]);
	assert_ptr_equal(region_of_chunk(&map, 11), &map.r[1]);
	assert_ptr_equal(region_of_chunk(&map, 12), &map.r[2]);
	assert_null(region_of_chunk(&map, 13));
	assert_null(region_of_chunk(&map, UINT64_MAX));
	assert_true(region_chunk_mask(&map.r[1], 0) == UINT64_MAX);
	assert_true(region_chunk_mask(&map.r[1], 1) == 1);
}

static void bad_regions_are_refused(void **state)
{
	char longest[REGION_NAME + 1];
	struct err e;

	(void)state;
	memset(longest, 'n', sizeof(longest));
	longest[REGION_NAME] = '\0';
	assert_int_equal(region_add(&map, "", -1, 4096, 4096, &e), -EINVAL);
	assert_int_equal(region_add(&map, longest, -1, 4096, 4096, &e), -EINVAL);
	assert_int_equal(region_add(&map, "a", -1, 0, 4096, &e), -EINVAL);
	assert_int_equal(region_add(&map, "a", -1, 4097, 4096, &e), -EINVAL);
	assert_int_equal(
		region_add(&map, "a", -1, UINT64_MAX & ~UINT64_C(4095), 4096, &e), -EINVAL);
	assert_int_equal(region_add(&map, "a", -1, 4096, 8192, &e), -EINVAL);
	assert_int_equal(region_add(&map, "a", -1, 3u << 20, 2u << 20, &e), -EINVAL);
	assert_int_equal(region_add(&map, "a", -1, 2u << 20, 1u << 30, &e), -EINVAL);
	assert_int_equal(map.n, 0);
	assert_int_equal(region_add(&map, "a", -1, 4096, 4096, &e), 0);
	assert_int_equal(region_add(&map, "a", -1, 4096, 4096, &e), -EEXIST);
	assert_int_equal(region_add(&map, "b", -1, REGION_BYTES_MAX, 4096, &e), -ENOSPC);
	assert_int_equal(region_add(&map, "b", -1, REGION_BYTES_MAX - 4096, 4096, &e), 1);
	assert_int_equal(region_add(&map, "c", -1, 4096, 4096, &e), -ENOSPC);
	assert_true(strlen(e.text) > 0);
}

static void views_stay_inside(void **state)
{
	struct region *r;

	(void)state;
	assert_int_equal(region_add(&map, "a", -1, 1 << 20, 4096, NULL), 0);
	r = &map.r[0];
	assert_int_equal(region_add_view(r, &(struct view){.bytes = 1 << 20}, NULL), 0);
	assert_int_equal(
		region_add_view(r, &(struct view){.offset_bytes = 4096, .bytes = 1 << 20}, NULL),
		-EINVAL);
	assert_int_equal(
		region_add_view(
			r, &(struct view){.offset_bytes = UINT64_MAX - 4095, .bytes = 8192}, NULL),
		-EINVAL);
	assert_int_equal(region_add_view(r, &(struct view){.bytes = 0}, NULL), -EINVAL);
	assert_int_equal(region_add_view(r, &(struct view){.bytes = 100}, NULL), -EINVAL);
	assert_int_equal(
		region_add_view(r, &(struct view){.gpa = UINT64_MAX - 4095, .bytes = 8192}, NULL),
		-EINVAL);
	for (unsigned i = 1; i < REGION_VIEWS; i++)
		assert_int_equal(region_add_view(r, &(struct view){.bytes = 4096}, NULL), 0);
	assert_int_equal(region_add_view(r, &(struct view){.bytes = 4096}, NULL), -ENOSPC);
}

static void file_is_mapped(void **state)
{
	int fd = memfd_create("region", MFD_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	assert_int_equal(region_add(&map, "a", fd, 1 << 20, 4096, NULL), 0);
	assert_int_equal(region_mmap(&map.r[0], true, NULL), 0);
	region_chunk_addr(&map.r[0], 3)[5] = 7;
	assert_int_equal(map.r[0].base[3 * CHUNK_BYTES + 5], 7);
	region_map_close(&map);
	assert_int_equal(map.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(chunks_are_numbered_through, setup),
		cmocka_unit_test_setup(bad_regions_are_refused, setup),
		cmocka_unit_test_setup(views_stay_inside, setup),
		cmocka_unit_test_setup(file_is_mapped, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
