// SPDX-License-Identifier: BSD-3-Clause
// Guest memory that a device reads by DMA is mapped where it is all there, and taken back when the
// device has let go of it, whatever fails. No device of a test machine needs that, so a fake stands
// for DPDK's four calls.

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "port_impl.h"

#include "extmem_window_impl.h"

#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_memory.h>

#define WINDOW      EXTMEM_ALIGN_BYTES
#define WINDOWS     4u
#define WAIT_NAPS   20000
#define WAIT_SILENT 20

// What was called: 'r' and 'u' of the memory, '0' to '3' mapped, 'a' to 'd' unmapped, by window.
static struct fake {
	char log[64];
	unsigned n;
	uint8_t *base;
	size_t bytes;
	unsigned bad_map; // the call that fails, from 1
	unsigned maps;
	bool bad_register, bad_unmap;
} fake;

static struct port port;
static struct region_map map;
static struct extmem_window *w;

int __wrap_rte_extmem_register(void *at, size_t bytes, rte_iova_t *iova, unsigned n, size_t page);
int __wrap_rte_extmem_unregister(void *at, size_t bytes);
int __wrap_rte_dev_dma_map(struct rte_device *d, void *at, uint64_t iova, size_t bytes);
int __wrap_rte_dev_dma_unmap(struct rte_device *d, void *at, uint64_t iova, size_t bytes);

static void note(char what)
{
	fake.log[fake.n++] = what;
}

int __wrap_rte_extmem_register(void *at, size_t bytes, rte_iova_t *iova, unsigned n, size_t page)
{
	if (fake.bad_register || iova != NULL || n != 0 || (uintptr_t)at % page != 0) {
		rte_errno = ENOSPC;
		return -1;
	}
	fake.base = at;
	fake.bytes = bytes;
	note('r');
	return 0;
}

int __wrap_rte_extmem_unregister(void *at, size_t bytes)
{
	note(at == fake.base && bytes == fake.bytes ? 'u' : '!');
	return 0;
}

static unsigned window_of(struct rte_device *d, const void *at, uint64_t iova, size_t bytes)
{
	size_t off = (size_t)((const uint8_t *)at - fake.base);

	assert_ptr_equal(d, port.device);
	assert_int_equal(iova, (uintptr_t)at);
	assert_int_equal(bytes, WINDOW);
	assert_int_equal(off % WINDOW, 0);
	return (unsigned)(off / WINDOW);
}

int __wrap_rte_dev_dma_map(struct rte_device *d, void *at, uint64_t iova, size_t bytes)
{
	unsigned n = window_of(d, at, iova, bytes);

	if (++fake.maps == fake.bad_map) {
		rte_errno = ENOMEM;
		return -1;
	}
	note((char)('0' + n));
	return 0;
}

int __wrap_rte_dev_dma_unmap(struct rte_device *d, void *at, uint64_t iova, size_t bytes)
{
	unsigned n = window_of(d, at, iova, bytes);

	if (fake.bad_unmap) {
		rte_errno = EBUSY;
		return -1;
	}
	note((char)('a' + n));
	return 0;
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void add_region(const char *name, uint64_t bytes)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	assert_return_code(ftruncate(fd, (off_t)bytes), errno);
	for (uint64_t at = 0; at < bytes; at += PAGE_BYTES) // allocated ahead would be holes still
		assert_int_equal(pwrite(fd, "x", 1, (off_t)at), 1);
	assert_true(region_add(&map, name, fd, bytes, PAGE_BYTES, NULL) >= 0);
	assert_int_equal(region_mmap(&map.r[map.n - 1], false, NULL), 0);
}

static int begin(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	memset(&port, 0, sizeof(port));
	port.device = (struct rte_device *)&port; // nobody looks into it
	region_map_init(&map);
	add_region("small", CHUNK_BYTES); // less than a window can be
	add_region("ram", WINDOWS * WINDOW + CHUNK_BYTES);
	return 0;
}

static _Atomic unsigned walks; // calls of walk()

// Tells the first extent only, as the thread asks for no more.
static int walk(int fd, uint64_t offset, uint64_t len,
	int (*run)(void *arg, uint64_t offset, uint64_t bytes), void *arg)
{
	off_t data = lseek(fd, (off_t)offset, SEEK_DATA), hole = lseek(fd, data, SEEK_HOLE);
	off_t end = (off_t)(offset + len);

	atomic_fetch_add(&walks, 1);
	if (data < 0 || data >= end)
		return 0;
	return run(arg, (uint64_t)data, (uint64_t)((hole < end ? hole : end) - data));
}

static void wait_looks(unsigned looks)
{
	struct extmem_window_info i = {0};

	for (unsigned n = 0; n < WAIT_NAPS && i.looks < looks; n++) {
		nap();
		extmem_window_info(w, &i);
	}
	assert_true(i.looks >= looks);
}

static void open_windows(const char *root)
{
	const struct extmem_window_config c = {.port = &port,
		.map = &map,
		.lanes = 2,
		.walk = walk,
		.window_bytes = WINDOW,
		.root = root};

	assert_int_equal(extmem_window_new(&w, &c, NULL), 0);
	wait_looks(1);
}

static void wait_gone(void)
{
	for (unsigned n = 0; n < WAIT_NAPS && atomic_load(&port.windows) > 0; n++)
		nap();
	assert_int_equal(atomic_load(&port.windows), 0);
	assert_int_equal(atomic_load(&port.ending), 0);
	region_map_close(&map);
}

static void close_windows(void)
{
	extmem_window_free(w);
	wait_gone();
}

static bool take(unsigned lane, uint64_t at, struct extmem_piece *p)
{
	struct iovec seg = {map.r[1].base + at, PAGE_BYTES};

	return extmem_window_take(w, lane, &seg, 1, p);
}

static off_t page_of(unsigned window)
{
	return (off_t)(window * WINDOW + 5 * PAGE_BYTES);
}

static void punch(unsigned window)
{
	assert_return_code(fallocate(map.r[1].fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   page_of(window), PAGE_BYTES),
		errno);
}

static void is_mapped_and_taken_back(void **state)
{
	struct extmem_window_info i;
	struct extmem_piece p = {0};

	(void)state;
	open_windows("");
	assert_string_equal(fake.log, "r0123");
	extmem_window_info(w, &i);
	assert_int_equal(i.mapped_bytes, WINDOWS * WINDOW);
	assert_int_equal(i.bytes, map.bytes);
	assert_int_equal(i.small_bytes, 2 * CHUNK_BYTES);
	assert_int_equal(i.holed_bytes, 0);
	assert_int_equal(i.refused_bytes, 0);
	// The device finds the same page at an address of its own.
	assert_true(take(0, WINDOW + PAGE_BYTES, &p));
	assert_ptr_equal(p.at, fake.base + WINDOW + PAGE_BYTES);
	assert_int_equal(pwrite(map.r[1].fd, "page", 4, (off_t)(WINDOW + PAGE_BYTES)), 4);
	assert_memory_equal(p.at, "page", 4);
	assert_false(extmem_window_is_back(w, 0));
	assert_true(extmem_window_is_back(w, 1));
	extmem_window_give(&p, 1);
	assert_true(extmem_window_is_back(w, 0));
	// What windows do not cover.
	assert_false(take(0, WINDOWS * WINDOW, &p));
	assert_false(extmem_window_take(w, 0, &(struct iovec){map.r[0].base, PAGE_BYTES}, 1, &p));
	assert_false(extmem_window_take(w, 0, &(struct iovec){&p, sizeof(p)}, 1, &p));
	assert_false(
		extmem_window_take(w, 0, &(struct iovec){map.r[1].base + WINDOW - 1, 2}, 1, &p));
	assert_true(extmem_window_is_back(w, 0));
	close_windows();
	assert_string_equal(fake.log, "r0123abcdu");
}

// One that can't be mapped is copied, with the reason; the others are not harmed.
static void third_can_not_be(void **state)
{
	struct extmem_window_info i;
	struct extmem_piece p[2];
	struct iovec seg[2] = {
		{map.r[1].base, PAGE_BYTES}, {map.r[1].base + 2 * WINDOW, PAGE_BYTES}};

	(void)state;
	fake.bad_map = 3;
	open_windows("");
	assert_string_equal(fake.log, "r013");
	extmem_window_info(w, &i);
	assert_int_equal(i.mapped_bytes, 3 * WINDOW);
	assert_int_equal(i.refused_bytes, WINDOW);
	assert_int_equal(i.why.errnum, ENOMEM);
	assert_non_null(strstr(i.why.text, "can't map"));
	assert_false(extmem_window_take(w, 1, seg, 2, p)); // all of a packet, or nothing
	assert_true(extmem_window_is_back(w, 1));
	assert_true(extmem_window_take(w, 1, seg, 1, p));
	extmem_window_give(p, 1);
	extmem_window_look(w);
	wait_looks(2);
	assert_string_equal(fake.log, "r013"); // it is not tried again
	close_windows();
	assert_string_equal(fake.log, "r013abdu");
}

static void can_not_be_registered(void **state)
{
	struct extmem_window_info i;
	struct extmem_piece p = {0};

	(void)state;
	fake.bad_register = true;
	open_windows("");
	extmem_window_info(w, &i);
	assert_int_equal(i.refused_bytes, WINDOWS * WINDOW);
	assert_non_null(strstr(i.why.text, "register"));
	assert_false(take(0, 0, &p));
	close_windows();
	assert_string_equal(fake.log, "");
}

static void holes_stay_unmapped(void **state)
{
	struct extmem_piece p = {0};
	struct extmem_window_info i;

	(void)state;
	punch(1);
	assert_return_code(fallocate(map.r[1].fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   2 * (off_t)WINDOW, (off_t)WINDOW),
		errno);
	open_windows("");
	assert_string_equal(fake.log, "r03");
	extmem_window_info(w, &i);
	assert_int_equal(i.holed_bytes, WINDOW); // in an empty one is nothing to copy
	assert_false(take(0, WINDOW, &p));
	assert_int_equal(pwrite(map.r[1].fd, "x", 1, page_of(1)), 1);
	extmem_window_look(w);
	wait_looks(2);
	assert_string_equal(fake.log, "r031");
	extmem_window_info(w, &i);
	assert_int_equal(i.holed_bytes, 0);
	assert_true(take(0, WINDOW, &p));
	extmem_window_give(&p, 1);
	close_windows();
	assert_string_equal(fake.log, "r031abdu");
}

// A hole comes up while the device holds a piece: nothing more is given to it, and the window stays
// until that piece is back.
static void withdrawn_while_in_flight(void **state)
{
	struct extmem_window_info i;
	struct extmem_piece p = {0}, q = {0};

	(void)state;
	open_windows("");
	assert_true(take(0, 2 * WINDOW, &p));
	punch(2);
	extmem_window_look(w);
	for (unsigned n = 0; n < WAIT_NAPS && take(1, 2 * WINDOW, &q); n++) {
		extmem_window_give(&q, 1);
		nap();
	}
	assert_false(take(1, 2 * WINDOW, &q));
	for (unsigned n = 0; n < WAIT_SILENT; n++)
		nap();
	assert_string_equal(fake.log, "r0123");
	extmem_window_give(&p, 1);
	wait_looks(2);
	assert_string_equal(fake.log, "r0123c");
	extmem_window_info(w, &i);
	assert_int_equal(i.discarded, 1);
	assert_int_equal(i.mapped_bytes, 3 * WINDOW);
	close_windows();
	assert_string_equal(fake.log, "r0123cabdu");
}

// Looks are asked for faster than they are done: they do not pile up.
static void looks_once_for_many(void **state)
{
	struct extmem_piece p = {0};
	unsigned before;

	(void)state;
	open_windows("");
	assert_true(take(0, 3 * WINDOW, &p)); // in the last window, so that this look asks no more
	punch(3);
	before = atomic_load(&walks);
	extmem_window_look(w);
	for (unsigned n = 0; n < WAIT_NAPS && atomic_load(&walks) - before < WINDOWS; n++)
		nap();
	for (unsigned n = 0; n < 100; n++)
		extmem_window_look(w);
	extmem_window_give(&p, 1);
	wait_looks(3);
	for (unsigned n = 0; n < WAIT_SILENT; n++)
		nap();
	assert_int_equal(atomic_load(&walks) - before, 2 * WINDOWS);
	close_windows();
}

static void ends_when_pieces_are_back(void **state)
{
	struct extmem_piece p = {0};

	(void)state;
	open_windows("");
	assert_true(take(1, WINDOW, &p));
	extmem_window_free(w);
	for (unsigned n = 0; n < WAIT_SILENT; n++)
		nap();
	assert_string_equal(fake.log, "r0123a");
	assert_int_equal(atomic_load(&port.windows), 1);
	assert_int_equal(atomic_load(&port.ending), 1);
	extmem_window_give(&p, 1);
	wait_gone();
	assert_string_equal(fake.log, "r0123abcdu");
}

// What the device does not let go of stays registered, and where it is.
static void can_not_be_unmapped(void **state)
{
	unsigned char there;

	(void)state;
	fake.bad_unmap = true;
	open_windows("");
	close_windows();
	assert_string_equal(fake.log, "r0123");
	assert_int_equal(mincore(fake.base, PAGE_BYTES, &there), 0);
	munmap(fake.base, fake.bytes);
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

static void asks_the_limit_first(void **state)
{
	// Counted apart: one is what VFIO has mapped, the other what is registered for RDMA.
	static const char *const used[] = {
		"VmLck:\t    2048 kB\nVmPin:\t       0 kB\nCapEff:\t0000000000000000\n",
		"VmLck:\t    1024 kB\nVmPin:\t    2048 kB\nCapEff:\t0000000000000000\n"};
	char root[] = "/tmp/godwit-test-XXXXXX", path[256];
	struct extmem_window_info i;

	(void)state;
	assert_non_null(mkdtemp(root));
	snprintf(path, sizeof(path), "mkdir -p %s/proc/self", root);
	assert_int_equal(system(path), 0);
	tell(root, "limits", "Max locked memory         6291456              6291456  bytes\n");
	for (unsigned n = 0; n < 2; n++) {
		if (n > 0)
			begin(state);
		tell(root, "status", used[n]);
		open_windows(root);
		assert_string_equal(fake.log, "r01");
		extmem_window_info(w, &i);
		assert_int_equal(i.refused_bytes, 2 * WINDOW);
		assert_non_null(strstr(i.why.text, "RLIMIT_MEMLOCK"));
		close_windows();
		assert_string_equal(fake.log, "r01abu");
	}
	snprintf(path, sizeof(path), "rm -r %s", root);
	assert_int_equal(system(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(is_mapped_and_taken_back, begin),
		cmocka_unit_test_setup(third_can_not_be, begin),
		cmocka_unit_test_setup(can_not_be_registered, begin),
		cmocka_unit_test_setup(holes_stay_unmapped, begin),
		cmocka_unit_test_setup(withdrawn_while_in_flight, begin),
		cmocka_unit_test_setup(looks_once_for_many, begin),
		cmocka_unit_test_setup(ends_when_pieces_are_back, begin),
		cmocka_unit_test_setup(can_not_be_unmapped, begin),
		cmocka_unit_test_setup(asks_the_limit_first, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
