// SPDX-License-Identifier: BSD-3-Clause
// Which folders of telemetry go when a process starts: those of killed processes, and no others.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "eal_sweep.h"

static char base[] = "/tmp/godwit-sweep-XXXXXX";

static const char *at(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static const char *at(const char *fmt, ...)
{
	static char path[128];
	int n = snprintf(path, sizeof(path), "%s/", base);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path + n, sizeof(path) - (size_t)n, fmt, ap);
	va_end(ap);
	return path;
}

/* A process that has ended, and whose number is not in use. */
static int dead(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	return pid;
}

/* A folder with a socket, on which the returned fd listens, and a file. */
static int folder(const char *name, int pid)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_int_equal(mkdir(at("%s-%d", name, pid), 0700), 0);
	close(open(at("%s-%d/more", name, pid), O_CREAT | O_WRONLY, 0600));
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", at("%s-%d/dpdk_telemetry.v2", name, pid));
	assert_int_equal(bind(sock, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(sock, 1), 0);
	return sock;
}

static void assert_there(const char *name, int pid, bool there)
{
	assert_int_equal(access(at("%s-%d/more", name, pid), F_OK), there ? 0 : -1);
	assert_int_equal(access(at("%s-%d", name, pid), F_OK), there ? 0 : -1);
}

static void test_sweep(void **state)
{
	int killed = dead(), elsewhere = dead(), bare = dead(), linked = dead();
	int listens = folder("godwit", elsewhere);

	(void)state;
	close(folder("godwit", killed));
	close(folder("godwit", getppid()));
	close(folder("other", killed));
	close(folder("godwit-x", killed));
	close(folder("far", killed));
	/* Of one that starts just now, perhaps: there is no socket yet. */
	assert_int_equal(mkdir(at("godwit-%d", bare), 0700), 0);
	assert_int_equal(symlink("far", at("godwit-%d", linked)), 0);
	assert_int_equal(eal_sweep(base, "godwit"), 1);
	assert_there("godwit", killed, false);
	assert_there("godwit", elsewhere, true);
	assert_there("godwit", getppid(), true);
	assert_there("other", killed, true);
	assert_there("godwit-x", killed, true);
	assert_there("far", killed, true);
	assert_int_equal(access(at("godwit-%d", bare), F_OK), 0);
	close(listens);
	assert_int_equal(eal_sweep(base, "godwit"), 1);
	assert_there("godwit", elsewhere, false);
	/* What is no empty folder but for files stays. */
	close(folder("godwit", elsewhere));
	assert_int_equal(mkdir(at("godwit-%d/folder", elsewhere), 0700), 0);
	assert_int_equal(eal_sweep(base, "godwit"), 0);
	assert_int_equal(access(at("godwit-%d/folder", elsewhere), F_OK), 0);
	assert_int_equal(eal_sweep(at("nowhere"), "godwit"), 0);
}

static void remove_all(const char *path)
{
	pid_t pid = fork();

	if (pid == 0)
		execl("/bin/rm", "rm", "-r", path, (char *)NULL);
	waitpid(pid, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_sweep)};
	int rc;

	if (mkdtemp(base) == NULL)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	remove_all(base);
	return rc;
}
