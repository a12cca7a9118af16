// SPDX-License-Identifier: BSD-3-Clause
// confine.c: a process that has given its rights up can't do what it must not, in no thread, and
// can still do its work.

#include "harness.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confine.h"

#define MUST(what)                                                                                 \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "line %d: %s: %s\n", __LINE__, #what, strerror(errno));    \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)
#define REFUSED(call) MUST((errno = 0, (call) == -1 && errno == EPERM))

static pthread_barrier_t gate;

static void try_calls(void)
{
	static const unsigned long spaces[] = {CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS,
		CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET};
	size_t n;
	const int *calls = confine_refused(&n);

	MUST(n > 40);
	/* Arguments that none of them takes, should one be let through. */
	for (size_t i = 0; i < n; i++)
		if (calls[i] >= 0 &&
			(syscall(calls[i], -1L, -1L, -1L, -1L, -1L, -1L) != -1 || errno != EPERM)) {
			fprintf(stderr, "call %d: %s\n", calls[i], strerror(errno));
			_exit(1);
		}
	for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++) {
		long pid;

		errno = 0;
		pid = syscall(SYS_clone, spaces[i] | SIGCHLD, 0, 0, 0, 0);
		if (pid == 0)
			_exit(0);
		MUST(pid == -1 && errno == EPERM);
	}
	errno = 0;
	MUST(syscall(SYS_clone3, NULL, 0) == -1 && errno == ENOSYS);
}

static void *nothing(void *arg)
{
	return arg;
}

static void *other_thread(void *arg)
{
	pthread_barrier_wait(&gate); /* it is there */
	pthread_barrier_wait(&gate); /* the process is confined */
	try_calls();
	return arg;
}

static uint64_t status(const char *key, int base)
{
	char line[256];
	uint64_t v = UINT64_MAX;
	FILE *f = fopen("/proc/thread-self/status", "re");

	MUST(f != NULL);
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, key, strlen(key)) == 0)
			v = strtoull(line + strlen(key), NULL, base);
	fclose(f);
	return v;
}

/* With all capabilities it is the filter alone that refuses. */
static void child(enum confine_role role, bool capabilities)
{
	struct err e = {0};
	pthread_t t;
	int fd;

	pthread_barrier_init(&gate, NULL, 2);
	MUST(pthread_create(&t, NULL, other_thread, NULL) == 0);
	pthread_barrier_wait(&gate);
	if (!capabilities)
		MUST(confine_capabilities(role, &e) == 0);
	MUST(confine_calls(role, &e) == 0);
	pthread_barrier_wait(&gate);
	MUST(pthread_join(t, NULL) == 0);
	try_calls();
	MUST(status("NoNewPrivs:", 10) == 1);
	MUST(status("Seccomp:", 10) == 2);
	if (role == CONFINE_DAEMON) {
		REFUSED(syscall(SYS_ptrace, -1L, 0, 0, 0));
		REFUSED(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0));
		REFUSED(syscall(SYS_process_vm_writev, getppid(), NULL, 0, NULL, 0, 0));
		REFUSED(syscall(SYS_pidfd_getfd, 0, 0, 0));
	}
	/* CAP_SETUID, CAP_SETPCAP, CAP_SYS_MODULE, CAP_SYS_TIME, CAP_MKNOD; and of the daemon's
	 * CAP_SYS_PTRACE, CAP_SYS_ADMIN */
	if (!capabilities)
		MUST((status("CapEff:", 16) &
			     ((1u << 7) | (1u << 8) | (1u << 16) | (1u << 25) | (1u << 27) |
				     (role == CONFINE_DAEMON ? 1u << 19 | 1u << 21 : 0))) == 0);
	/* Its work goes on. */
	fd = memfd_create("x", MFD_CLOEXEC);
	MUST(fd >= 0 && ftruncate(fd, 4096) == 0);
	MUST(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED);
	MUST(socket(AF_INET, SOCK_STREAM, 0) >= 0);
	MUST(system("true") == 0);
	MUST(pthread_create(&t, NULL, nothing, NULL) == 0 && pthread_join(t, NULL) == 0);
	_exit(0);
}

static void test_confined(void **state)
{
	static const struct {
		enum confine_role role;
		bool capabilities;
	} rows[] = {{CONFINE_DAEMON, false}, {CONFINE_DAEMON, true}, {CONFINE_ATTACH, false},
		{CONFINE_ATTACH, true}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		pid_t pid = fork();
		int how;

		if (pid == 0)
			child(rows[i].role, rows[i].capabilities);
		assert_int_equal(waitpid(pid, &how, 0), pid);
		assert_int_equal(how, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_confined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
