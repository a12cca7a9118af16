// SPDX-License-Identifier: BSD-3-Clause
// Attach: what stands against tracking a process, each refusal by a process that is so. Device
// nodes are files of that name in a mount namespace of the process's own: only the name is looked
// at. Not to be had everywhere: a shadow stack, and files of VFIO and guest_memfd, which have no
// name in a file system; of these it is what the kernel tells of them.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/magic.h>

#include "attach.h"
#include "attach_writers.h"
#include "tracee.h"

#define NOBODY    65534
#define RAM_BYTES (4u << 20)

/* A process that has done what it is to do, and waits for its end. */
struct other {
	pid_t pid;
	int done; /* a byte comes: it could */
};

static bool start(struct other *o, bool (*act)(void *arg), void *arg)
{
	int sv[2];
	char could = 0;

	assert_int_equal(pipe2(sv, O_CLOEXEC), 0);
	o->pid = fork();
	assert_true(o->pid >= 0);
	if (o->pid == 0) {
		could = act(arg);
		if (write(sv[1], &could, 1) == 1)
			pause();
		_exit(0);
	}
	close(sv[1]);
	assert_int_equal(read(sv[0], &could, 1), 1);
	close(sv[0]);
	return could;
}

static void end(struct other *o)
{
	kill(o->pid, SIGKILL);
	waitpid(o->pid, NULL, 0);
}

static unsigned count(const struct findings *all, const char *name)
{
	unsigned n = 0;

	for (unsigned i = 0; i < all->n; i++)
		n += strcmp(all->f[i].name, name) == 0 && all->f[i].cure[0] != '\0';
	return n;
}

static bool make_file(const char *path)
{
	char folder[64], *slash;

	snprintf(folder, sizeof(folder), "%s", path);
	for (slash = folder + 5; (slash = strchr(slash, '/')) != NULL; *slash++ = '/') {
		*slash = '\0';
		mkdir(folder, 0700);
	}
	return open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) >= 0;
}

/* arg: a path below /dev. */
static bool has_open(void *arg)
{
	return unshare(CLONE_NEWNS) == 0 &&
	       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("none", "/dev", "tmpfs", 0, NULL) == 0 && make_file(arg) &&
	       /* However often it has it open. */
	       open(arg, O_RDWR) >= 0;
}

static void writers(void **state)
{
	static const struct {
		const char *path, *finding;
	} rows[] = {
		{"/dev/vhost-net", "vhost"},
		{"/dev/vhost-vsock", "vhost"},
		{"/dev/vhost-scsi", "vhost"},
		{"/dev/vhost-vdpa-0", "vhost"},
		{"/dev/vfio/vfio", "vfio"},
		{"/dev/vfio/12", "vfio"},
		{"/dev/iommu", "vfio"},
		{"/dev/infiniband/uverbs0", "rdma"},
		{"/dev/udmabuf", "udmabuf"},
		{"/dev/net/tun", NULL},
		{"/dev/kvm", NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		static struct findings found;
		struct other o;
		char path[64];

		strcpy(path, rows[i].path);
		if (!start(&o, has_open, path)) {
			end(&o);
			print_message("this user may mount nothing\n");
			skip();
		}
		memset(&found, 0, sizeof(found));
		attach_writers(o.pid, &found);
		end(&o);
		assert_int_equal(found.n, rows[i].finding != NULL);
		if (rows[i].finding == NULL)
			continue;
		assert_int_equal(count(&found, rows[i].finding), 1);
		assert_non_null(strstr(found.f[0].text, rows[i].path));
	}
}

static bool maps_memfd(void *arg)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);

	(void)arg;
	return ftruncate(fd, RAM_BYTES) == 0 &&
	       mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED;
}

static struct attach_file file_of(pid_t pid, const char *part)
{
	struct attach_file *files, found = {0};
	struct err e;
	unsigned n;

	assert_int_equal(attach_files(NULL, pid, &files, &n, &e), 0);
	for (unsigned i = 0; i < n; i++)
		if (strstr(files[i].path, part) != NULL)
			found = files[i];
	free(files);
	assert_true(found.n > 0);
	return found;
}

static bool anyone_may_fault(void)
{
	FILE *f = fopen("/proc/sys/vm/unprivileged_userfaultfd", "re");
	int c = f != NULL ? fgetc(f) : '1';

	if (f != NULL)
		fclose(f);
	return c != '0';
}

/* By a process that is nobody: it finds out without doing anything. */
static void no_rights(void **state)
{
	static const char *const names[] = {"ptrace", "fds", "ram-open"};
	bool free_for_all = anyone_may_fault();
	struct attach_file ram;
	struct other o;
	int status;
	pid_t pid;

	(void)state;
	if (geteuid() != 0) {
		print_message("only root can give its rights up\n");
		skip();
	}
	assert_true(start(&o, maps_memfd, NULL));
	ram = file_of(o.pid, "ram");
	pid = fork();
	if (pid == 0) {
		static struct findings found;
		int missing = 0;

		if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
			_exit(99);
		attach_check(NULL, o.pid, &ram, 1, &found);
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			missing |= count(&found, names[i]) == 1 ? 0 : 1 << i;
		if (!free_for_all && access("/dev/userfaultfd", R_OK) != 0)
			missing |= count(&found, "kernel") == 1 ? 0 : 8;
		_exit(missing);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	end(&o);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void traced(void **state)
{
	static struct findings found;
	struct attach_file ram;
	struct other o;

	(void)state;
	assert_true(start(&o, maps_memfd, NULL));
	ram = file_of(o.pid, "ram");
	attach_check(NULL, o.pid, &ram, 1, &found);
	assert_int_equal(count(&found, "traced"), 0);
	assert_int_equal(ptrace(PTRACE_SEIZE, o.pid, NULL, NULL), 0);
	attach_check(NULL, o.pid, &ram, 1, &found);
	assert_int_equal(count(&found, "traced"), 1);
	end(&o);
}

static bool maps_file(void *arg)
{
	int fd = open(arg, O_RDWR | O_CLOEXEC);

	return ftruncate(fd, RAM_BYTES) == 0 &&
	       mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED;
}

static void file_on_disk(void **state)
{
	static struct findings found;
	char path[] = "/var/tmp/godwit-ram-XXXXXX";
	struct attach_file ram;
	struct statfs fs;
	struct other o;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(fstatfs(fd, &fs), 0);
	if ((uint64_t)fs.f_type == TMPFS_MAGIC) {
		close(fd);
		unlink(path);
		print_message("/var/tmp is a tmpfs here\n");
		skip();
	}
	assert_true(start(&o, maps_file, path));
	ram = file_of(o.pid, path);
	attach_check(NULL, o.pid, &ram, 1, &found);
	end(&o);
	close(fd);
	unlink(path);
	assert_int_equal(count(&found, "ram-backing"), 1);
}

static void gone(void **state)
{
	static struct findings found;
	struct other o;

	(void)state;
	assert_true(start(&o, maps_memfd, NULL));
	end(&o);
	attach_check(NULL, o.pid, NULL, 0, &found);
	assert_int_equal(count(&found, "gone"), 1);
	assert_int_equal(count(&found, "fds"), 1);
}

static void names_without_a_file(void **state)
{
	(void)state;
	assert_string_equal(attach_writer_named("anon_inode:[vfio-device]"), "vfio");
	assert_string_equal(attach_writer_named("anon_inode:[kvm-gmem]"), "guest-memfd");
	assert_string_equal(attach_writer_named("/dev/vfio/12"), "vfio");
	assert_null(attach_writer_named("anon_inode:[kvm-vm]"));
	assert_null(attach_writer_named("anon_inode:[kvm-vcpu:0]"));
	assert_null(attach_writer_named("/dev/vfi"));
}

/* arch/x86/kernel/cpu/proc.c prints the features of a thread; Documentation/arch/x86/shstk.rst. */
static void guards(void **state)
{
	static const struct {
		const char *status;
		struct tracee_guard g;
	} rows[] = {
		{"Name:\tqemu\nTracerPid:\t0\nSeccomp:\t0\nx86_Thread_features:\tshstk wrss \n"
		 "x86_Thread_features_locked:\t\n",
			{.shadow_stack = true}},
		{"Name:\tqemu\nTracerPid:\t0\nSeccomp:\t2\nx86_Thread_features:\t\n"
		 "x86_Thread_features_locked:\tshstk wrss \n",
			{.seccomp = 2}},
		{"Name:\tqemu\nTracerPid:\t77\nSeccomp:\t1\n", {.seccomp = 1, .tracer = 77}},
		{"Name:\tshstk\nTracerPid:\t0\nx86_Thread_features:\tshstk",
			{.shadow_stack = true}},
		{"", {0}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tracee_guard g;

		tracee_read_guard(rows[i].status, &g);
		assert_int_equal(g.seccomp, rows[i].g.seccomp);
		assert_int_equal(g.tracer, rows[i].g.tracer);
		assert_int_equal(g.shadow_stack, rows[i].g.shadow_stack);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writers),
		cmocka_unit_test(names_without_a_file),
		cmocka_unit_test(guards),
		cmocka_unit_test(no_rights),
		cmocka_unit_test(traced),
		cmocka_unit_test(file_on_disk),
		cmocka_unit_test(gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
