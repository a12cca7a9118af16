// SPDX-License-Identifier: BSD-3-Clause
// Holes of RAM files, asked of the file and of the mapping; and that looking at an idle terabyte
// follows what is populated, not what is nominal. Times are printed, never judged.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bits.h"
#include "clock.h"
#include "hole.h"
#include "map.h"
#include "seed.h"
#include "source.h"

#define PAGES 4096u

struct file {
	int fd;
	uint64_t bytes;
	uint8_t *base;
};

static void file_open(struct file *f, uint64_t bytes)
{
	f->fd = memfd_create("ram", MFD_CLOEXEC);
	f->bytes = bytes;
	assert_return_code(ftruncate(f->fd, (off_t)bytes), errno);
	f->base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, f->fd, 0);
	assert_ptr_not_equal(f->base, MAP_FAILED);
}

static void file_close(struct file *f)
{
	munmap(f->base, f->bytes);
	close(f->fd);
}

static void punch(struct file *f, uint64_t page, uint64_t n)
{
	assert_return_code(fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   (off_t)(page * PAGE_BYTES), (off_t)(n * PAGE_BYTES)),
		errno);
}

static void both_agree(void **state)
{
	static uint64_t plain[PAGES / 64], words[PAGES / 64];
	struct seed rng = {11};
	struct file f;
	char byte = 1;

	(void)state;
	file_open(&f, PAGES * PAGE_BYTES);
	for (unsigned i = 0; i < 400; i++) {
		uint64_t page = seed_below(&rng, PAGES);
		uint64_t n = 1 + seed_below(&rng, i % 7 ? 20 : PAGES - page);

		if (n > PAGES - page)
			n = PAGES - page;
		switch (seed_below(&rng, 4)) {
		case 0:
			punch(&f, page, n);
			bits_clear_range(plain, page, n);
			break;
		case 1: /* through the mapping */
			memset(f.base + page * PAGE_BYTES, 1, n / 4 * PAGE_BYTES);
			bits_set_range(plain, page, n / 4);
			break;
		case 2: /* behind the mapping's back */
			assert_int_equal(pwrite(f.fd, &byte, 1, (off_t)(page * PAGE_BYTES)), 1);
			bits_set(plain, page);
			break;
		case 3: /* populated, but not in the page table any more */
			madvise(f.base + page * PAGE_BYTES, n * PAGE_BYTES, MADV_DONTNEED);
			break;
		}
		memset(words, 0, sizeof(words));
		assert_int_equal(hole_populated(f.fd, f.bytes, words), 0);
		assert_memory_equal(words, plain, sizeof(words));
		memset(words, 0, sizeof(words));
		assert_int_equal(hole_populated_mapped(f.fd, f.bytes, f.base, words), 0);
		assert_memory_equal(words, plain, sizeof(words));
	}
	file_close(&f);
}

static int stop_at_second(void *arg, uint64_t offset, uint64_t len)
{
	(void)offset;
	(void)len;
	return ++*(int *)arg == 2 ? 42 : 0;
}

static void walk_stops(void **state)
{
	struct file f;
	int calls = 0;

	(void)state;
	file_open(&f, 16 * PAGE_BYTES);
	for (unsigned i = 0; i < 16; i += 2)
		f.base[i * PAGE_BYTES] = 1;
	assert_int_equal(hole_walk(f.fd, f.bytes, stop_at_second, &calls), 42);
	assert_int_equal(calls, 2);
	assert_int_equal(hole_walk(-1, f.bytes, stop_at_second, &calls), -EBADF);
	file_close(&f);
}

/* 1 TiB nominal, 64 MiB populated: looks report what is written, in holes too, and the file does
 * not grow by being looked at. */
static void idle_terabyte(void **state)
{
	static struct region_map map;
	struct source_config c = {.map = &map, .vm_fd = -1};
	const uint64_t bytes = UINT64_C(1) << 40, pages = 16384;
	uint64_t *words, t0, idle_ns, hole = 700 * (UINT64_C(1) << 30);
	struct source *s;
	struct file f;
	struct err e;

	(void)state;
	file_open(&f, bytes);
	assert_int_equal(region_add(&map, "ram", f.fd, bytes, 4096, &e), 0);
	map.r[0].base = f.base;
	if (source_pagemap_scan.open(&s, &c, &e) < 0) {
		print_message("%s\n", e.text);
		file_close(&f);
		region_map_init(&map);
		skip();
	}
	words = map_lazy(map.nchunks * 8);
	memset(f.base + (UINT64_C(8) << 30), 1, pages * PAGE_BYTES);
	assert_int_equal(s->ops->start(s, &e), 0);
	assert_int_equal(s->ops->look(s, words, false, &e), pages);
	assert_int_equal(s->ops->arm(s, 0, map.nchunks, words, words, &e), 0);
	map_drop(words, map.nchunks * 8);
	t0 = clock_ns();
	assert_int_equal(s->ops->look(s, words, false, &e), 0);
	idle_ns = clock_ns() - t0;
	f.base[hole] = 1;
	assert_int_equal(s->ops->look(s, words, true, &e), 1);
	assert_true(bits_test(words, hole / PAGE_BYTES));
	map_drop(words, map.nchunks * 8);
	t0 = clock_ns();
	assert_int_equal(hole_populated_mapped(f.fd, bytes, f.base, words), 0);
	print_message("an idle look: %llu us; holes: %llu us\n",
		(unsigned long long)(idle_ns / 1000),
		(unsigned long long)((clock_ns() - t0) / 1000));
	assert_int_equal(bits_count_range(words, 0, bytes / PAGE_BYTES), pages + 1);
	s->ops->close(s);
	map_free(words, map.nchunks * 8);
	region_map_init(&map);
	file_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_agree),
		cmocka_unit_test(walk_stops),
		cmocka_unit_test(idle_terabyte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
