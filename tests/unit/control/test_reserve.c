// SPDX-License-Identifier: BSD-3-Clause
// reserve.c: what guests take, from where, against a /proc and a /sys of its own: regions that
// share a place are summed, and so is what other guests were promised there.

#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <numa.h>
#include <numaif.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "reserve.h"

#define MIB  (UINT64_C(1) << 20)
#define HUGE (2u << 20)

static char root[] = "/tmp/godwit-reserve-XXXXXX";

static void put(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(const char *name, const char *fmt, ...)
{
	char path[512], *slash;
	va_list ap;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	for (slash = path + sizeof(root); (slash = strchr(slash, '/')) != NULL; *slash++ = '/') {
		*slash = '\0';
		mkdir(path, 0700);
	}
	f = fopen(path, "w");
	assert_non_null(f);
	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
	fclose(f);
}

/* A host of two nodes, and what each has left. */
static void host(unsigned mib, unsigned node0, unsigned node1)
{
	put("proc/meminfo", "MemTotal: 9999999 kB\nMemAvailable: %u kB\n", mib << 10);
	put("proc/self/cgroup", "0::/\n");
	put("sys/devices/system/node/node0/meminfo",
		"Node 0 MemFree: %u kB\nNode 0 Inactive(file): 1024 kB\n", (node0 - 1) << 10);
	put("sys/devices/system/node/node1/meminfo", "Node 1 MemFree: %u kB\n", node1 << 10);
}

static void add(struct region_map *map, unsigned mib, uint32_t page_bytes, int node, int fd)
{
	char name[16];
	struct err e;
	int i;

	snprintf(name, sizeof(name), "r%u", map->n);
	if (fd < 0)
		fd = memfd_create(name, MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, (off_t)(mib * MIB)), 0);
	i = region_add(map, name, fd, mib * MIB, page_bytes, &e);
	assert_true(i >= 0);
	map->r[i].node = node;
}

static struct region_map one, two;

static int fresh(void **state)
{
	(void)state;
	region_map_init(&one);
	region_map_init(&two);
	return 0;
}

static int close_all(void **state)
{
	(void)state;
	for (unsigned i = 0; i < one.n; i++)
		close(one.r[i].fd);
	for (unsigned i = 0; i < two.n; i++)
		close(two.r[i].fd);
	return 0;
}

/* says: NULL where there is enough for it. */
static void check(const struct region_map *map, unsigned mib, const struct region_map *other,
	unsigned other_mib, const char *says)
{
	struct reserve r;
	struct err e = {0};
	int rc;

	reserve_needs(&r, map, mib * MIB);
	if (other != NULL)
		reserve_promise(&r, other, other_mib * MIB);
	rc = reserve_check(&r, root, &e);
	assert_int_equal(rc, says != NULL ? -ENOMEM : 0);
	if (says != NULL)
		assert_has(e.text, says);
}

static void test_host(void **state)
{
	(void)state;
	host(1024, 1024, 1024);
	add(&one, 512, PAGE_BYTES, -1, -1);
	add(&one, 512, PAGE_BYTES, -1, -1);
	check(&one, 900, NULL, 0, NULL);
	check(&one, 1000, NULL, 0, "1064 MiB and this host has 1024 MiB;"); /* with the margin */
	add(&two, 512, PAGE_BYTES, -1, -1);
	check(&two, 512, &one, 400, NULL);
	check(&two, 512, &one, 500,
		"this host has 524 MiB, less what other sessions were promised;");
	/* What its file has already is there. */
	assert_int_equal(posix_fallocate(two.r[0].fd, 0, 128 * MIB), 0);
	check(&two, 512, &one, 500, NULL);
}

/* Each fits on the node alone. */
static void test_node(void **state)
{
	(void)state;
	host(4096, 512, 1024);
	add(&one, 300, PAGE_BYTES, 0, -1);
	check(&one, 300, NULL, 0, NULL);
	add(&one, 300, PAGE_BYTES, 0, -1);
	check(&one, 600, NULL, 0, "600 MiB and its NUMA node 0 has 512 MiB;");
	/* At least so much of it is there, however it is spread. */
	add(&one, 300, PAGE_BYTES, 1, -1);
	check(&one, 812, NULL, 0, NULL);
	check(&one, 814, NULL, 0, "514 MiB and its NUMA node 0");
	add(&two, 200, PAGE_BYTES, 0, -1);
	check(&two, 200, &one, 600, NULL); /* 300 of them here */
	check(&two, 200, &one, 700, "NUMA node 0 has 112 MiB, less what other sessions");
	two.r[0].node = 1;
	check(&two, 200, &one, 700, NULL);
}

static void test_huge(void **state)
{
	(void)state;
	host(64, 64, 64); /* they are not of this */
	put("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "256\n");
	put("sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "128\n");
	add(&one, 300, HUGE, -1, -1);
	check(&one, 300, NULL, 0, NULL);
	add(&one, 300, HUGE, -1, -1);
	check(&one, 600, NULL, 0, "600 MiB and the pool of 2048 KiB huge pages has 512 MiB");
	add(&two, 300, HUGE, -1, -1);
	check(&two, 300, &one, 200, NULL);
	check(&two, 300, &one, 300,
		"huge pages has 212 MiB, less what other sessions were promised");
	two.r[0].node = 1;
	check(&two, 256, &one, 600, NULL);
	check(&two, 300, &one, 600, "huge pages of NUMA node 1 has 256 MiB;");
}

/* says: NULL where a guest that is all here finds room for what it touches next. */
static void check_next(const struct region_map *map, const char *says)
{
	struct err e = {0};

	assert_int_equal(reserve_check_next(map, root, &e), says != NULL ? -ENOMEM : 0);
	if (says != NULL)
		assert_has(e.text, says);
}

/* A few pages more, of a place that ends whoever finds none there; memory of the host that is
 * short does not. */
static void test_next(void **state)
{
	static const struct {
		uint32_t page_bytes;
		int node;
		unsigned there_mib; /* of 4, or of 1024 */
		unsigned free_pages, free_node1;
		const char *says;
	} rows[] = {
		{PAGE_BYTES, -1, 0, 0, 0, NULL},
		{PAGE_BYTES, 1, 0, 0, 0, NULL},
		{HUGE, -1, 0, 1, 0, NULL},
		{HUGE, -1, 2, 0, 0, "needs 2 MiB and the pool of 2048 KiB huge pages has 0 MiB;"},
		{HUGE, -1, 4, 0, 0, NULL},
		{HUGE, 1, 0, 0, 1, NULL},
		{HUGE, 1, 0, 1, 0,
			"needs 2 MiB and the pool of 2048 KiB huge pages of NUMA node 1"},
		{1u << 30, -1, 0, 1, 0, NULL},
		{1u << 30, -1, 0, 0, 0, "needs 1024 MiB and the pool of 1048576 KiB huge pages"},
	};

	(void)state;
	host(1, 1, 1);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsigned kib = rows[i].page_bytes >> 10;

		put("proc/meminfo", "MemAvailable: 0 kB\n");
		if (rows[i].page_bytes != PAGE_BYTES) {
			char name[96];

			snprintf(name, sizeof(name),
				"sys/kernel/mm/hugepages/hugepages-%ukB/free_hugepages", kib);
			put(name, "%u\n", rows[i].free_pages);
			snprintf(name, sizeof(name),
				"sys/devices/system/node/node1/hugepages/hugepages-%ukB/"
				"free_hugepages",
				kib);
			put(name, "%u\n", rows[i].free_node1);
		}
		add(&one, kib > 4096 ? 1024 : 4, rows[i].page_bytes, rows[i].node, -1);
		if (rows[i].there_mib > 0)
			assert_int_equal(
				posix_fallocate(one.r[0].fd, 0, (off_t)(rows[i].there_mib * MIB)),
				0);
		check_next(&one, rows[i].says);
		close_all(NULL);
		fresh(NULL);
	}
}

static void test_control_group(void **state)
{
	(void)state;
	host(4096, 4096, 4096);
	put("proc/self/cgroup", "0::/a/b\n");
	put("sys/fs/cgroup/a/memory.max", "%llu\n", (unsigned long long)(512 * MIB));
	put("sys/fs/cgroup/a/memory.current", "0\n");
	put("sys/fs/cgroup/a/b/memory.max", "max\n");
	add(&one, 300, PAGE_BYTES, -1, -1);
	add(&two, 300, PAGE_BYTES, -1, -1);
	check(&one, 300, &two, 100, NULL);
	check(&one, 300, &two, 200, "the daemon's control group has 312 MiB, less");
}

static int ram_file(const char *folder, const char *name)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

/* Two files on one file system of 8 MiB. */
static void test_file_system(void **state)
{
	char folder[512];

	(void)state;
	host(4096, 4096, 4096);
	snprintf(folder, sizeof(folder), "%s/mnt", root);
	mkdir(folder, 0700);
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("none", folder, "tmpfs", 0, "size=8m") < 0) {
		print_message("this user may mount nothing\n");
		skip();
	}
	add(&one, 6, PAGE_BYTES, -1, ram_file(folder, "a"));
	check(&one, 6, NULL, 0, NULL);
	add(&one, 6, PAGE_BYTES, -1, ram_file(folder, "b"));
	check(&one, 12, NULL, 0, "12 MiB and the file system of its RAM file has 8 MiB;");
	add(&two, 6, PAGE_BYTES, -1, ram_file(folder, "c"));
	check(&two, 6, &one, 2, NULL);
	check(&two, 6, &one, 4, "RAM file has 4 MiB, less what other sessions were promised");
	/* Others fill it up beneath a guest that is here. */
	check_next(&two, NULL);
	assert_int_equal(posix_fallocate(one.r[0].fd, 0, 6 * MIB), 0);
	check_next(&two, NULL);
	assert_int_equal(posix_fallocate(one.r[1].fd, 0, MIB), 0);
	check_next(&two, "needs 2 MiB and the file system of its RAM file has 1 MiB;");
	assert_int_equal(ftruncate(one.r[1].fd, 0), 0);
	assert_int_equal(ftruncate(one.r[0].fd, 2 * MIB), 0);
	assert_int_equal(posix_fallocate(two.r[0].fd, 0, 5 * MIB), 0);
	check_next(&two, NULL); /* one more is all that it has holes for */
	assert_int_equal(posix_fallocate(one.r[1].fd, 0, MIB), 0);
	check_next(&two, "needs 1 MiB");
	assert_int_equal(ftruncate(one.r[1].fd, 0), 0);
	assert_int_equal(posix_fallocate(two.r[0].fd, 0, 6 * MIB), 0);
	check_next(&two, NULL);
	close_all(NULL);
	one.n = two.n = 0;
	umount(folder);
}

/* A policy that one process gives its mapping of a RAM file holds for all who map it; that of a
 * process does not. */
static void test_nodes_of_policies(void **state)
{
	unsigned long node0 = 1;
	void *vmm;
	struct err e;

	(void)state;
	if (numa_available() < 0) {
		print_message("this kernel has no NUMA\n");
		skip();
	}
	add(&one, 4, PAGE_BYTES, 7, -1);
	add(&one, 4, PAGE_BYTES, 7, -1);
	for (unsigned i = 0; i < one.n; i++)
		assert_int_equal(region_mmap(&one.r[i], true, &e), 0);
	vmm = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, one.r[1].fd, 0);
	assert_true(vmm != MAP_FAILED);
	reserve_find_nodes(&one);
	assert_int_equal(one.r[0].node, -1);
	assert_int_equal(one.r[1].node, -1);
	assert_int_equal(mbind(vmm, 4 * MIB, MPOL_BIND, &node0, sizeof(node0) * 8, 0), 0);
	assert_int_equal(set_mempolicy(MPOL_BIND, &node0, sizeof(node0) * 8), 0);
	reserve_find_nodes(&one);
	assert_int_equal(set_mempolicy(MPOL_DEFAULT, NULL, 0), 0);
	assert_int_equal(one.r[0].node, -1);
	assert_int_equal(one.r[1].node, 0);
	munmap(vmm, 4 * MIB);
	munmap(one.r[0].base, 4 * MIB);
	munmap(one.r[1].base, 4 * MIB);
}

static int make_root(void **state)
{
	(void)state;
	return mkdtemp(root) != NULL ? 0 : -1;
}

static int remove_root(void **state)
{
	char line[64];

	(void)state;
	snprintf(line, sizeof(line), "rm -rf %s", root);
	return system(line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_host, fresh, close_all),
		cmocka_unit_test_setup_teardown(test_node, fresh, close_all),
		cmocka_unit_test_setup_teardown(test_huge, fresh, close_all),
		cmocka_unit_test_setup_teardown(test_next, fresh, close_all),
		cmocka_unit_test_setup_teardown(test_control_group, fresh, close_all),
		cmocka_unit_test_setup_teardown(test_file_system, fresh, close_all),
		cmocka_unit_test_setup_teardown(test_nodes_of_policies, fresh, close_all),
	};

	return cmocka_run_group_tests(tests, make_root, remove_root);
}
