// SPDX-License-Identifier: BSD-3-Clause
// Attach: which files a process maps, and what is found to stand against tracking it.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "far.h"
#include "uffd.h"

#define PAGES 256u

/* One region, and a process that maps it. */
static void start(struct region_map *map, struct far *far)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);
	struct err e = {0};

	region_map_init(map);
	assert_int_equal(ftruncate(fd, PAGES * PAGE_BYTES), 0);
	assert_int_equal(region_add(map, "ram", fd, PAGES * PAGE_BYTES, 4096, &e), 0);
	if (far_open(far, map, FAR_PLAIN, &e) != 0)
		fail_msg("%s", e.text);
}

static const struct finding *find(const struct findings *all, const char *name)
{
	for (unsigned i = 0; i < all->n; i++)
		if (strcmp(all->f[i].name, name) == 0)
			return &all->f[i];
	return NULL;
}

static void finds(void **state)
{
	struct attach_file *files;
	static struct findings found;
	static struct region_map map;
	static struct far far, other;
	struct err e;
	unsigned n;
	int rc;

	(void)state;
	start(&map, &far);
	assert_int_equal(attach_files(NULL, far.pid, &files, &n, &e), 0);
	for (unsigned i = 0; i < n; i++)
		if (strstr(files[i].path, "ram") != NULL)
			files[0] = files[i];
	assert_string_equal(files[0].path, "/memfd:ram");
	assert_true(files[0].deleted && files[0].shared && files[0].writable);
	assert_int_equal(files[0].bytes, PAGES * PAGE_BYTES);
	assert_int_equal(files[0].page_bytes, 4096);
	attach_check(NULL, far.pid, files, 1, &found);
	for (unsigned i = 0; i < found.n; i++)
		print_message("%s: %s\n", found.f[i].name, found.f[i].text);
	assert_int_equal(found.n, 0);

	rc = far_do(&far, FAR_DIRECT, 0, 0, 0);
	assert_int_equal(far_open(&other, &map, FAR_PLAIN, &e), 0);
	files[0].shared = false;
	files[0].page_bytes = 1u << 30;
	files[0].bytes -= PAGE_BYTES;
	attach_check(NULL, far.pid, files, 1, &found);
	assert_non_null(find(&found, "ram-shared"));
	assert_non_null(find(&found, "ram-private"));
	assert_non_null(find(&found, "huge-1g"));
	assert_non_null(find(&found, "ram-size"));
	if (rc == 0) {
		assert_non_null(find(&found, "direct-io"));
		assert_non_null(strstr(find(&found, "direct-io")->cure, "--disk-cache writeback"));
	}
	for (unsigned i = 0; i < found.n; i++)
		assert_true(found.f[i].text[0] != '\0' && found.f[i].cure[0] != '\0');
	far_close(&other);
	free(files);
	far_close(&far);
	region_map_close(&map);
}

/* A private mapping of a file: what is written stays in the process. */
static void private_ram(void **state)
{
	struct attach_file *files;
	struct attach *a = NULL;
	struct err e = {0};
	int fd = memfd_create("private", MFD_CLOEXEC);
	bool found = false;
	unsigned n;
	int pidfd;
	pid_t pid;

	(void)state;
	assert_int_equal(ftruncate(fd, 4 << 20), 0);
	pid = fork();
	if (pid == 0) {
		if (mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0) != MAP_FAILED)
			pause();
		_exit(1);
	}
	while (!found) { /* until it has mapped it */
		assert_int_equal(attach_files(NULL, pid, &files, &n, &e), 0);
		for (unsigned i = 0; i < n && !found; i++) {
			found = strcmp(files[i].path, "/memfd:private") == 0;
			files[0] = files[i];
		}
		if (!found)
			free(files);
	}
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	assert_int_equal(attach_open(&a, NULL, pid, pidfd, files[0].ram, files[0].n, &e), -ENOTSUP);
	close(pidfd);
	assert_non_null(strstr(e.text, "share"));
	free(files);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(fd);
}

static void finds_by_path(void **state)
{
	char path[] = "/dev/shm/godwit-test-XXXXXX";
	struct attach_file f;
	static struct region_map map;
	struct far far;
	struct err e = {0};
	int fd = mkstemp(path);

	(void)state;
	if (fd < 0)
		skip();
	assert_int_equal(ftruncate(fd, PAGES * PAGE_BYTES), 0);
	region_map_init(&map);
	assert_int_equal(region_add(&map, "ram", fd, PAGES * PAGE_BYTES, 4096, &e), 0);
	assert_int_equal(far_open(&far, &map, FAR_VIEWS, &e), 0);
	assert_int_equal(attach_find_ram(far.pid, path, &f, &e), 0);
	assert_string_equal(f.path, path);
	assert_int_equal(f.n, 3); /* whole, and in two pieces */
	assert_int_equal(attach_find_ram(far.pid, "/nowhere", &f, &e), -ENOENT);
	fd = attach_open_file(NULL, far.pid, &f, &e);
	assert_return_code(fd, e.errnum);
	close(fd);
	unlink(path);
	assert_int_equal(attach_find_ram(far.pid, path, &f, &e), -ENOENT);
	far_close(&far);
	region_map_close(&map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds),
		cmocka_unit_test(private_ram),
		cmocka_unit_test(finds_by_path),
	};
	int fd = uffd_open();

	if (fd < 0) {
		printf("userfaultfd: %s\n", strerror(-fd));
		return 77;
	}
	close(fd);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
