// SPDX-License-Identifier: BSD-3-Clause
// The helper: what it tells is what one sees without it, a question that is none ends it, and its
// death is an error, not a hang. The program is given as the argument.

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "helper.h"
#include "helper_sock.h"
#include "pagemap.h"
#include "sock_fd.h"

#define RAM_BYTES (4u << 20)

static const char *program;

struct other {
	pid_t pid;
	int pidfd;
	int ram;
};

// A process that maps a RAM file. What it maps is there when this returns.
static void other_start(struct other *o)
{
	int ready[2];
	char c;

	o->ram = memfd_create("ram", MFD_CLOEXEC);
	assert_int_equal(ftruncate(o->ram, RAM_BYTES), 0);
	assert_int_equal(pipe(ready), 0);
	o->pid = fork();
	if (o->pid == 0) {
		if (mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, o->ram, 0) ==
				MAP_FAILED ||
			write(ready[1], "r", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	o->pidfd = (int)syscall(SYS_pidfd_open, o->pid, 0);
	assert_true(o->pidfd >= 0);
}

static void other_end(struct other *o)
{
	kill(o->pid, SIGKILL);
	waitpid(o->pid, NULL, 0);
	close(o->pidfd);
	close(o->ram);
}

static const struct attach_file *ram_of(const struct attach_file *files, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (strcmp(files[i].path, "/memfd:ram") == 0)
			return &files[i];
	fail_msg("the RAM file is not in the list");
	return NULL;
}

static void tells_what_is_there(void **state)
{
	struct attach_file *files, *seen;
	struct findings *found = calloc(2, sizeof(*found));
	struct stat here, there;
	struct other o;
	struct helper *h;
	struct err e = {0};
	unsigned n, m;
	int fd;

	(void)state;
	other_start(&o);
	assert_int_equal(helper_start(&h, program, &e), 0);
	assert_int_equal(attach_files(NULL, o.pid, &seen, &m, &e), 0);
	assert_int_equal(attach_files(h, o.pid, &files, &n, &e), 0);
	assert_int_equal(n, m);
	assert_memory_equal(files, seen, n * sizeof(*files));

	fd = attach_open_file(h, o.pid, ram_of(files, n), &e);
	assert_return_code(fd, e.errnum);
	assert_int_equal(fstat(fd, &there), 0);
	assert_int_equal(fstat(o.ram, &here), 0);
	assert_int_equal(there.st_ino, here.st_ino);
	close(fd);

	/* It is the daemon's mapping that must not count, and this test maps nothing. */
	attach_check(NULL, o.pid, ram_of(files, n), 1, &found[0]);
	attach_check(h, o.pid, ram_of(files, n), 1, &found[1]);
	assert_int_equal(found[0].n, found[1].n);
	for (unsigned i = 0; i < found[0].n; i++)
		assert_string_equal(found[0].f[i].name, found[1].f[i].name);

	fd = helper_path(h, o.pid, "/");
	assert_true(fd >= 0);
	assert_int_equal(read(fd, &n, 1), -1); /* to be compared only */
	close(fd);
	assert_int_equal(helper_path(h, o.pid, "/nowhere"), -ENOENT);
	free(files);
	free(seen);
	free(found);
	helper_end(h);
	other_end(&o);
}

static void attaches(void **state)
{
	struct attach_file *files;
	struct attach *a;
	struct other o;
	struct helper *h;
	struct err e = {0};
	unsigned n;
	int fd;

	(void)state;
	other_start(&o);
	assert_int_equal(helper_start(&h, program, &e), 0);
	assert_int_equal(attach_files(h, o.pid, &files, &n, &e), 0);
	if (attach_open(&a, h, o.pid, o.pidfd, ram_of(files, n)->ram, 1, &e) < 0)
		fail_msg("%s", e.text);
	assert_true(attach_stopped_ns(a) > 0);
	fd = attach_pagemap(a);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(attach_verify(a, &e), 0);
	attach_close(a);
	/* A process that is not there is the helper's answer, not its end. */
	free(files);
	other_end(&o);
	assert_true(attach_files(h, o.pid, &files, &n, &e) < 0);
	assert_true(e.text[0] != '\0');
	assert_int_equal(attach_files(h, getpid(), &files, &n, &e), 0);
	free(files);
	helper_end(h);
}

static void its_death_is_an_error(void **state)
{
	struct attach_file *files;
	struct helper *h;
	struct err e = {0};
	unsigned n;

	(void)state;
	/* A program that ends at once. */
	assert_int_equal(helper_start(&h, "/bin/true", &e), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(attach_files(h, getpid(), &files, &n, &e), -EPIPE);
		assert_non_null(strstr(e.text, "restart godwitd"));
	}
	helper_end(h);
	assert_int_equal(helper_start(&h, "./nowhere/godwit-attach", &e), -ENOENT);
}

// Serves one message in a child; how it ended.
static int served(const void *msg, size_t bytes, int fd)
{
	int sv[2], how;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	pid = fork();
	if (pid == 0) {
		close(sv[0]);
		_exit(helper_serve(sv[1]) == -EPROTO ? 7 : 0);
	}
	close(sv[1]);
	assert_int_equal(sock_fd_send(sv[0], msg, bytes, fd), 0);
	shutdown(sv[0], SHUT_WR);
	assert_int_equal(waitpid(pid, &how, 0), pid);
	close(sv[0]);
	assert_true(WIFEXITED(how));
	return WEXITSTATUS(how);
}

static void bad_questions_end_it(void **state)
{
	struct helper_ask *ask = calloc(1, sizeof(*ask));
	const struct helper_ask good = {.magic = HELPER_MAGIC, .op = HELPER_LIST, .pid = getpid()};

	(void)state;
	assert_int_equal(served(&good, sizeof(good), -1), 0);
	assert_int_equal(served(&good, sizeof(good) - 1, -1), 7);
	assert_int_equal(served(&good, 1, -1), 7);
	assert_int_equal(served(&good, sizeof(good), 0), 7); /* with a descriptor too many */
	for (unsigned i = 0; i < 9; i++) {
		*ask = good;
		switch (i) {
		case 0:
			ask->magic ^= 1;
			break;
		case 1:
			ask->op = 0;
			break;
		case 2:
			ask->op = HELPER_OPS;
			break;
		case 3:
			ask->pid = 0;
			break;
		case 4:
			ask->n = HELPER_FILES + 1;
			break;
		case 5:
			ask->file.n = ATTACH_VIEWS + 1;
			break;
		case 6:
			memset(ask->path, 'x', sizeof(ask->path));
			break;
		case 7:
			ask->patience_ms = HELPER_PATIENCE_MS + 1;
			break;
		default:
			memset(ask->file.path, 'x', sizeof(ask->file.path));
		}
		assert_int_equal(served(ask, sizeof(*ask), -1), 7);
	}
	*ask = good;
	ask->op = HELPER_CHECK; /* without its list */
	assert_int_equal(served(ask, sizeof(*ask), -1), 7);
	free(ask);
}

// This program, run as a helper: it never answers, and does not end by itself.
static void hangs_for_ever(void **state)
{
	struct attach_file *files;
	struct helper *h;
	struct err e = {0};
	unsigned n;

	(void)state;
	assert_int_equal(helper_start(&h, "/proc/self/exe", &e), 0);
	helper_patience(h, 10);
	assert_int_equal(attach_files(h, getpid(), &files, &n, &e), -ETIMEDOUT);
	assert_non_null(strstr(e.text, "Restart godwitd"));
	/* What comes late is the answer of nothing. */
	assert_int_equal(attach_files(h, getpid(), &files, &n, &e), -EPIPE);
	helper_end(h);
}

// A process whose /tmp is a file system that nobody serves.
static pid_t start_in_hanging_tree(int fuse)
{
	int ready[2];
	pid_t pid;
	char how[64], c = 0;

	snprintf(how, sizeof(how), "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		c = unshare(CLONE_NEWNS) == 0 &&
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		    mount("hangs", "/tmp", "fuse", 0, how) == 0;
		if (write(ready[1], &c, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	if (c != 0)
		return pid;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return -1;
}

static void a_path_that_hangs_holds_nobody_up(void **state)
{
	int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	struct attach_file *files;
	struct helper *h;
	struct err e = {0};
	unsigned n;
	pid_t pid;
	int fd;

	(void)state;
	pid = fuse < 0 ? -1 : start_in_hanging_tree(fuse);
	if (pid < 0) {
		print_message("no file system can be made to hang here\n");
		close_fd(&fuse);
		skip();
	}
	assert_int_equal(helper_start(&h, program, &e), 0);
	helper_patience(h, HELPER_PATH_PART * 50);
	assert_int_equal(helper_path(h, pid, "/tmp/image"), -ETIMEDOUT);
	helper_patience(h, HELPER_PATIENCE_MS);
	fd = helper_path(h, pid, "/");
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(attach_files(h, pid, &files, &n, &e), 0);
	free(files);
	close(fuse); /* which ends it */
	helper_end(h);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

// It gives RAM away, and nothing else that the process maps.
static void opens_nothing_but_ram(void **state)
{
	struct attach_file *files, f;
	struct other o;
	struct helper *h;
	struct err e = {0};
	unsigned n;

	(void)state;
	other_start(&o);
	assert_int_equal(helper_start(&h, program, &e), 0);
	assert_int_equal(attach_files(h, o.pid, &files, &n, &e), 0);
	for (unsigned i = 0; i < 4; i++) {
		f = *ram_of(files, n);
		if (i == 0)
			f.ino++;
		else if (i == 1)
			f.dev++;
		else if (i == 2)
			f.ram[0].addr += 4096;
		else
			f.n = 0;
		assert_int_equal(attach_open_file(h, o.pid, &f, &e), -ESTALE);
		assert_non_null(strstr(e.text, "/memfd:ram"));
	}
	free(files);
	helper_end(h);
	other_end(&o);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_what_is_there),
		cmocka_unit_test(attaches),
		cmocka_unit_test(its_death_is_an_error),
		cmocka_unit_test(bad_questions_end_it),
		cmocka_unit_test(hangs_for_ever),
		cmocka_unit_test(opens_nothing_but_ram),
		cmocka_unit_test(a_path_that_hangs_holds_nobody_up),
	};

	if (argc == 1)
		pause();
	if (argc != 2)
		return 2;
	program = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
