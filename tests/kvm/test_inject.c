// SPDX-License-Identifier: BSD-3-Clause
// One system call inside another process: nothing of that process changes by it, whatever it was
// just doing, and wherever on the way we are killed.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inject.h"
#include "uffd.h"
#include "victim.h"

static const char *const kinds[VICTIM_KINDS] = {
	"nanosleep", "poll", "ppoll", "futex", "read", "epoll_wait", "no system call"};

static int uffd_of(struct victim *v, struct err *e)
{
	struct inject i = {.pid = v->pid, .pidfd = v->pidfd};

	return inject_userfaultfd(&i, e);
}

static void is_userfaultfd(int fd)
{
	char path[40], name[64] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_true(readlink(path, name, sizeof(name) - 1) > 0);
	assert_string_equal(name, "anon_inode:[userfaultfd]");
}

static void unharmed(struct victim *v, int fds)
{
	assert_int_equal(victim_rounds(v, 3), 0);
	if (v->page->wrong != 0)
		fail_msg("wrong in the process: %s", (const char *)v->page->what);
	assert_int_equal(victim_fds(v->pid), fds);
	assert_int_equal(victim_tracer(v->pid), 0);
}

static void nothing_changes(void **state)
{
	(void)state;
	for (int kind = 0; kind < VICTIM_KINDS; kind++) {
		struct victim v;
		struct err e = {0};
		int fds;

		assert_int_equal(victim_start(&v, kind, NULL), 0);
		fds = victim_fds(v.pid);
		for (unsigned i = 0; i < 20; i++) {
			struct inject in = {.pid = v.pid, .pidfd = v.pidfd};
			int fd = inject_userfaultfd(&in, &e);

			if (fd < 0)
				fail_msg("%s: %s", kinds[kind], e.text);
			is_userfaultfd(fd);
			close(fd);
			if (i == 0)
				print_message("%s: stopped for %llu us\n", kinds[kind],
					(unsigned long long)in.stopped_ns / 1000);
		}
		unharmed(&v, fds);
		victim_stop(&v);
	}
}

static void die_at(void *arg, enum inject_step step)
{
	if (step == *(enum inject_step *)arg)
		kill(getpid(), SIGKILL);
}

static void killed_at(struct victim *v, enum inject_step step)
{
	pid_t pid = fork();
	int status;

	assert_return_code(pid, errno);
	if (pid == 0) {
		struct inject i = {.pid = v->pid, .pidfd = v->pidfd, .step = die_at, .arg = &step};
		struct err e;

		_exit(inject_userfaultfd(&i, &e) >= 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void killed_at_each_step(void **state)
{
	(void)state;
	for (int kind = 0; kind < VICTIM_KINDS; kind++) {
		struct victim v;
		struct err e;
		int fds, fd;

		assert_int_equal(victim_start(&v, kind, NULL), 0);
		fds = victim_fds(v.pid);
		for (enum inject_step step = 0; step < INJECT_STEPS; step++) {
			killed_at(&v, step);
			if (victim_rounds(&v, 2) != 0)
				fail_msg("in %s, killed at step %d: it does not go on", kinds[kind],
					step);
			unharmed(&v, fds);
		}
		fd = uffd_of(&v, &e);
		assert_return_code(fd, errno);
		close(fd);
		unharmed(&v, fds);
		victim_stop(&v);
	}
}

/* Signals rain on the process all the while. */
static void signals_arrive(void **state)
{
	(void)state;
	for (int kind = 0; kind < VICTIM_KINDS; kind++) {
		struct victim v;
		struct err e;
		pid_t rain;
		int fds;

		if (kind == VICTIM_POLL || kind == VICTIM_PPOLL || kind == VICTIM_NANOSLEEP ||
			kind == VICTIM_FUTEX)
			continue; /* EINTR is right for these */
		assert_int_equal(victim_start(&v, kind, NULL), 0);
		fds = victim_fds(v.pid);
		rain = fork();
		if (rain == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;) {
				kill(v.pid, SIGUSR1);
				usleep(50);
			}
		}
		for (unsigned i = 0; i < 40 || v.page->signals == 0; i++) {
			int fd = uffd_of(&v, &e);

			if (fd < 0)
				assert_string_equal(e.text, "");
			close(fd);
		}
		kill(rain, SIGKILL);
		waitpid(rain, NULL, 0);
		assert_true(v.page->signals > 0);
		unharmed(&v, fds);
		victim_stop(&v);
	}
}

static void stopped_process(void **state)
{
	struct victim v;
	struct err e;
	int fds, fd;

	(void)state;
	assert_int_equal(victim_start(&v, VICTIM_READ, NULL), 0);
	fds = victim_fds(v.pid);
	kill(v.pid, SIGSTOP);
	fd = uffd_of(&v, &e);
	if (fd < 0)
		fail_msg("%s", e.text);
	close(fd);
	usleep(20000);
	kill(v.pid, SIGCONT);
	unharmed(&v, fds);
	victim_stop(&v);
}

static void traced_process(void **state)
{
	struct victim v;
	struct err e;
	pid_t other;
	int fds, ready[2];
	char byte;

	(void)state;
	assert_int_equal(victim_start(&v, VICTIM_READ, NULL), 0);
	fds = victim_fds(v.pid);
	assert_return_code(pipe(ready), errno);
	other = fork();
	if (other == 0) {
		long rc = ptrace(PTRACE_SEIZE, v.pid, 0, 0);

		if (write(ready[1], rc == 0 ? "y" : "n", 1) == 1)
			pause();
		_exit(1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(byte, 'y');
	assert_int_equal(uffd_of(&v, &e), -EPERM);
	assert_non_null(strstr(e.text, "tracer"));
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	close(ready[0]);
	close(ready[1]);
	unharmed(&v, fds);
	victim_stop(&v);
}

static void forbid(int nr)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		_exit(9);
}

static void forbid_userfaultfd(void)
{
	forbid(SYS_swapon);
	forbid(SYS_userfaultfd);
}

static void forbid_other(void)
{
	forbid(SYS_swapon);
	forbid(SYS_reboot);
}

static void filtered_process(void **state)
{
	struct victim v;
	struct err e;
	int fds, fd;

	(void)state;
	assert_int_equal(victim_start(&v, VICTIM_READ, forbid_userfaultfd), 0);
	fds = victim_fds(v.pid);
	assert_int_equal(uffd_of(&v, &e), -EPERM);
	assert_non_null(strstr(e.text, "seccomp"));
	unharmed(&v, fds);
	victim_stop(&v);

	assert_int_equal(victim_start(&v, VICTIM_READ, forbid_other), 0);
	fds = victim_fds(v.pid);
	fd = uffd_of(&v, &e);
	if (fd < 0)
		fail_msg("%s", e.text);
	close(fd);
	unharmed(&v, fds);
	victim_stop(&v);
}

static void gone_process(void **state)
{
	struct victim v;
	struct err e;

	(void)state;
	assert_int_equal(victim_start(&v, VICTIM_READ, NULL), 0);
	kill(v.pid, SIGKILL);
	assert_return_code(waitpid(v.pid, NULL, 0), errno);
	assert_int_equal(uffd_of(&v, &e), -ESRCH);
	close(v.pidfd);
}

static int possible(void)
{
	int fd = uffd_open();

	if (fd < 0) {
		printf("userfaultfd: %s\n", strerror(-fd));
		return 0;
	}
	close(fd);
	return 1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_changes),
		cmocka_unit_test(killed_at_each_step),
		cmocka_unit_test(signals_arrive),
		cmocka_unit_test(stopped_process),
		cmocka_unit_test(traced_process),
		cmocka_unit_test(filtered_process),
		cmocka_unit_test(gone_process),
	};

	if (!possible())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
