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
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bits.h"
#include "clock.h"
#include "hole.h"
#include "huge.h"
#include "map.h"
#include "seed.h"
#include "source.h"

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
#define PAGES      4096u
#define HUGE_PAGES 12u

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

/* As much as the words tell, and never more than was asked about. */
static void measures(const struct file *f, const uint64_t *words)
{
	uint64_t bytes, pages = bits_count_range(words, 0, f->bytes / PAGE_BYTES);

	assert_int_equal(hole_measure(f->fd, f->bytes, &bytes), 0);
	assert_int_equal(bytes, pages * PAGE_BYTES);
	assert_int_equal(hole_measure(f->fd, PAGE_BYTES, &bytes), 0);
	assert_int_equal(bytes, pages > 0 ? PAGE_BYTES : 0);
}

static int set_pages(void *arg, uint64_t offset, uint64_t len)
{
	bits_set_range(arg, offset / PAGE_BYTES, len / PAGE_BYTES);
	return 0;
}

/* As threads do that share a file out; some know what they found last. */
static void in_pieces(const struct file *f, struct seed *rng, uint64_t *words)
{
	struct hole_extent known[2] = {{0}};
	uint64_t n;

	memset(words, 0, PAGES / 8);
	for (uint64_t page = 0; page < PAGES; page += n) {
		uint64_t who = seed_below(rng, 3), at = page * PAGE_BYTES;

		n = 1 + seed_below(rng, 700);
		n = n > PAGES - page ? PAGES - page : n;
		assert_int_equal(
			who < 2 ? hole_walk_next(
					  f->fd, at, n * PAGE_BYTES, &known[who], set_pages, words)
				: hole_walk_range(f->fd, at, n * PAGE_BYTES, set_pages, words),
			0);
	}
}

/* The kernel's answers can be withheld, and its calls counted. */
static bool no_cachestat;
static unsigned seeks;

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	long a[4];
	va_list ap;

	va_start(ap, number);
	for (unsigned i = 0; i < 4; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_cachestat && no_cachestat) {
		errno = ENOSYS;
		return -1;
	}
	return __real_syscall(number, a[0], a[1], a[2], a[3]);
}

off_t __real_lseek64(int fd, off_t offset, int whence);
off_t __wrap_lseek64(int fd, off_t offset, int whence);
off_t __wrap_lseek64(int fd, off_t offset, int whence)
{
	seeks += whence == SEEK_HOLE;
	return __real_lseek64(fd, offset, whence);
}

/* Without cachestat(2) the end of a file's data, which is dear to find, is looked for once by each
 * of those that share the file out, and once more after each hole. */
static void ends_are_found_once(void **state)
{
	static uint64_t words[PAGES / 64];
	struct hole_extent known[2] = {{0}};
	const unsigned piece = 64;
	struct file f;

	(void)state;
	file_open(&f, PAGES * PAGE_BYTES);
	memset(f.base, 1, f.bytes);
	punch(&f, PAGES / 2 + 7, 1);
	no_cachestat = true;
	seeks = 0;
	for (unsigned page = 0; page < PAGES; page += piece)
		assert_int_equal(hole_walk_next(f.fd, page * PAGE_BYTES, piece * PAGE_BYTES,
					 &known[page / piece % 2], set_pages, words),
			0);
	no_cachestat = false;
	assert_in_range(seeks, 1, 4); // 0: lseek is not the one that counts
	assert_int_equal(bits_count_range(words, 0, PAGES), PAGES - 1);
	file_close(&f);
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
		measures(&f, words);
		no_cachestat = i % 2;
		in_pieces(&f, &rng, words);
		no_cachestat = false;
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

static uint64_t held_pages(const struct file *f)
{
	struct stat st;

	assert_return_code(fstat(f->fd, &st), errno);
	return (uint64_t)st.st_blocks * 512 / HUGE_BYTES;
}

/* What both ways tell is what `plain` says, and asking allocates nothing. */
static void huge_agrees(const struct file *f, const void *reader, const uint64_t *plain)
{
	uint64_t words[HUGE_PAGES * 512 / 64], held = held_pages(f);

	memset(words, 0, sizeof(words));
	assert_int_equal(hole_populated(f->fd, f->bytes, words), 0);
	assert_memory_equal(words, plain, sizeof(words));
	measures(f, words);
	memset(words, 0, sizeof(words));
	assert_int_equal(hole_populated_mapped(f->fd, f->bytes, reader, words), 0);
	assert_memory_equal(words, plain, sizeof(words));
	assert_int_equal(held_pages(f), held);
}

static int count_bytes(void *arg, uint64_t offset, uint64_t len)
{
	(void)offset;
	*(uint64_t *)arg += len;
	return 0;
}

/* Writes, punches and reads at random: 0, some and all of the pages are there. */
static void huge_steps(struct file *f, const uint8_t *reader)
{
	uint64_t plain[HUGE_PAGES * 512 / 64] = {0}, bytes = 0;
	struct seed rng = {13};

	huge_agrees(f, reader, plain);
	for (unsigned i = 0; i < 200; i++) {
		uint64_t page = i < HUGE_PAGES ? i : seed_below(&rng, HUGE_PAGES);

		if (i < HUGE_PAGES || seed_below(&rng, 2) == 0) {
			f->base[page * HUGE_BYTES + seed_below(&rng, HUGE_BYTES)] = 1;
			bits_set_range(plain, page * 512, 512);
		} else {
			punch(f, page * 512, 512);
			bits_clear_range(plain, page * 512, 512);
		}
		/* The reader has mapped what it was told of, as a pass does; or only some. */
		for (page = 0; seed_below(&rng, 3) != 0 && page < HUGE_PAGES; page++)
			if (bits_test(plain, page * 512))
				assert_true(reader[page * HUGE_BYTES] <= 1);
		huge_agrees(f, reader, plain);
	}
	/* A part of the file that begins and ends within huge pages. */
	punch(f, 0, HUGE_PAGES * 512);
	f->base[2 * HUGE_BYTES] = 1;
	assert_int_equal(hole_walk_range(f->fd, 2 * HUGE_BYTES + PAGE_BYTES, 3 * PAGE_BYTES,
				 count_bytes, &bytes),
		0);
	assert_int_equal(bytes, 3 * PAGE_BYTES);
	assert_int_equal(hole_walk_range(f->fd, 3 * HUGE_BYTES - PAGE_BYTES, 3 * PAGE_BYTES,
				 count_bytes, &bytes),
		0);
	assert_int_equal(bytes, 4 * PAGE_BYTES);
}

static void huge_pages(void **state)
{
	struct file f = {.bytes = HUGE_PAGES * HUGE_BYTES};
	long had = huge_add(HUGE_PAGES);
	void *reader;

	(void)state;
	f.fd = memfd_create("ram", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	if (had < (long)HUGE_PAGES || f.fd < 0 || ftruncate(f.fd, (off_t)f.bytes) != 0) {
		huge_add(-had);
		close_fd(&f.fd);
		print_message("%ld of %u huge pages of 2 MiB could be reserved\n", had, HUGE_PAGES);
		skip();
	}
	f.base = mmap(NULL, f.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, 0);
	reader = mmap(NULL, f.bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, f.fd, 0);
	assert_ptr_not_equal(f.base, MAP_FAILED);
	assert_ptr_not_equal(reader, MAP_FAILED);
	huge_steps(&f, reader);
	munmap(reader, f.bytes);
	file_close(&f);
	huge_add(-had);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_agree),
		cmocka_unit_test(ends_are_found_once),
		cmocka_unit_test(walk_stops),
		cmocka_unit_test(huge_pages),
		cmocka_unit_test(idle_terabyte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
