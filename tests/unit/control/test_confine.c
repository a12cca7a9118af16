// SPDX-License-Identifier: BSD-3-Clause
// confine.c: a process that has given its rights up can't do what it must not, in no thread, and
// can still do its work.

#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
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
	REFUSED(chroot("/"));
	REFUSED(mount("none", "/tmp", "tmpfs", 0, NULL));
	REFUSED(umount2("/proc", MNT_DETACH));
	REFUSED(unshare(CLONE_NEWUSER));
	REFUSED(setns(0, 0));
	REFUSED(syscall(SYS_setuid, 0));
	REFUSED(syscall(SYS_setresgid, -1, -1, -1));
	REFUSED(syscall(SYS_setgroups, 0, NULL));
	REFUSED(syscall(SYS_init_module, NULL, 0, ""));
	REFUSED(syscall(SYS_kexec_load, 0, 0, NULL, 0));
	REFUSED(syscall(SYS_reboot, 0, 0, 0, NULL));
	REFUSED(syscall(SYS_bpf, 0, NULL, 0));
	REFUSED(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
	REFUSED(syscall(SYS_io_uring_setup, 1, NULL));
	REFUSED(syscall(SYS_keyctl, 0, 0));
	REFUSED(syscall(SYS_open_by_handle_at, -1, NULL, 0));
	REFUSED(mknod("/tmp/godwit-no-device", S_IFCHR | 0600, 0));
	REFUSED(sethostname("x", 1));
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

static void child(void)
{
	struct err e = {0};
	pthread_t t;
	int fd;

	pthread_barrier_init(&gate, NULL, 2);
	MUST(pthread_create(&t, NULL, other_thread, NULL) == 0);
	pthread_barrier_wait(&gate);
	MUST(confine_capabilities(CONFINE_DAEMON, &e) == 0);
	MUST(confine_calls(CONFINE_DAEMON, &e) == 0);
	pthread_barrier_wait(&gate);
	MUST(pthread_join(t, NULL) == 0);
	try_calls();
	MUST(status("NoNewPrivs:", 10) == 1);
	MUST(status("Seccomp:", 10) == 2);
	REFUSED(syscall(SYS_ptrace, PTRACE_ATTACH, getppid(), 0, 0));
	REFUSED(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0));
	REFUSED(syscall(SYS_pidfd_getfd, 0, 0, 0));
	/* CAP_SETUID, CAP_SETPCAP, CAP_SYS_MODULE, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_SYS_TIME,
	 * CAP_MKNOD */
	MUST((status("CapEff:", 16) & ((1u << 7) | (1u << 8) | (1u << 16) | (1u << 19) |
					      (1u << 21) | (1u << 25) | (1u << 27))) == 0);
	/* Its work goes on. */
	fd = memfd_create("x", MFD_CLOEXEC);
	MUST(fd >= 0 && ftruncate(fd, 4096) == 0);
	MUST(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED);
	MUST(socket(AF_INET, SOCK_STREAM, 0) >= 0);
	MUST(system("true") == 0);
	_exit(0);
}

static void test_confined(void **state)
{
	pid_t pid = fork();
	int how;

	(void)state;
	if (pid == 0)
		child();
	assert_int_equal(waitpid(pid, &how, 0), pid);
	assert_int_equal(how, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_confined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
