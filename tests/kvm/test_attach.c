// SPDX-License-Identifier: BSD-3-Clause
// Attach: what it refuses, what it notices behind its back, and that the other process is left as
// it was found, whoever dies.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bits.h"
#include "far.h"
#include "source.h"
#include "uffd.h"
#include "victim.h"

#define PAGES 256u

/* One region of 1 MiB, and a process that maps it. */
struct rig {
	struct region_map map;
	struct far far;
	struct source *source;
	uint64_t words[PAGES / 64];
};

static int start(struct rig *r, struct err *e)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);

	memset(r, 0, sizeof(*r));
	region_map_init(&r->map);
	if (fd < 0 || ftruncate(fd, PAGES * PAGE_BYTES) < 0)
		return -errno;
	if (region_add(&r->map, "ram", fd, PAGES * PAGE_BYTES, 4096, e) < 0)
		return -e->errnum;
	return far_open(&r->far, &r->map, FAR_PLAIN, e);
}

static void setup(struct rig *r)
{
	struct err e = {0};

	if (start(r, &e) != 0)
		fail_msg("%s", e.text);
}

static void track(struct rig *r)
{
	struct source_config c = {.map = &r->map, .vm_fd = -1, .attach = r->far.attach};
	struct err e = {0};

	if (source_pagemap_scan.open(&r->source, &c, &e) < 0 ||
		source_pagemap_scan.start(r->source, &e) < 0)
		fail_msg("%s", e.text);
}

static void teardown(struct rig *r)
{
	source_pagemap_scan.close(r->source);
	far_close(&r->far);
	region_map_close(&r->map);
}

static int64_t look(struct rig *r, struct err *e)
{
	memset(r->words, 0, sizeof(r->words));
	return source_pagemap_scan.look(r->source, r->words, false, e);
}

static void arm_all(struct rig *r)
{
	uint64_t want[PAGES / 64], out[PAGES / 64] = {0};

	memset(want, 0xff, sizeof(want));
	assert_true(source_pagemap_scan.arm(r->source, 0, PAGES / 64, want, out, NULL) >= 0);
}

/* Mappings of the process that are registered with a userfaultfd. */
static int registered(pid_t pid)
{
	char path[40], line[512];
	int n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " uw") != NULL)
			n++;
	fclose(f);
	return n;
}

static void leaves_nothing(void **state)
{
	static struct rig r;
	int fds;

	(void)state;
	setup(&r);
	fds = victim_fds(r.far.pid);
	assert_int_equal(registered(r.far.pid), 1);
	assert_true(attach_stopped_ns(r.far.attach) > 0);
	track(&r);
	far_do(&r.far, FAR_WRITE, 3, 1, 0);
	arm_all(&r);
	source_pagemap_scan.close(r.source);
	r.source = NULL;
	assert_int_equal(registered(r.far.pid), 0);
	attach_close(r.far.attach);
	r.far.attach = NULL;
	far_do(&r.far, FAR_WRITE, 3, 2, 0);
	assert_int_equal(registered(r.far.pid), 0);
	assert_int_equal(victim_fds(r.far.pid), fds);
	assert_int_equal(victim_tracer(r.far.pid), 0);
	teardown(&r);
}

/* Attaches, arms, and dies. */
static void die_attached(struct rig *r)
{
	struct source_config c = {.map = &r->map, .vm_fd = -1};
	struct attach_ram ram[8];
	struct err e;
	int n = far_mappings(r->far.pid, &r->map, ram, 8, &e);

	if (n < 0 ||
		attach_open(&c.attach, NULL, r->far.pid, r->far.pidfd, ram, (unsigned)n, &e) < 0 ||
		source_pagemap_scan.open(&r->source, &c, &e) < 0 ||
		source_pagemap_scan.start(r->source, &e) < 0)
		_exit(1);
	arm_all(r);
	kill(getpid(), SIGKILL);
}

static void daemon_dies(void **state)
{
	struct attach_ram ram[8];
	static struct rig r;
	struct err e;
	int n, status;
	pid_t pid;

	(void)state;
	setup(&r);
	attach_close(r.far.attach);
	r.far.attach = NULL;
	pid = fork();
	if (pid == 0)
		die_attached(&r);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(registered(r.far.pid), 0);
	far_do(&r.far, FAR_WRITE, 7, 1, 0);
	n = far_mappings(r.far.pid, &r.map, ram, 8, &e);
	assert_int_equal(
		attach_open(&r.far.attach, NULL, r.far.pid, r.far.pidfd, ram, (unsigned)n, &e), 0);
	teardown(&r);
}

static void vmm_dies(void **state)
{
	static struct rig r;
	struct err e = {0};

	(void)state;
	setup(&r);
	track(&r);
	kill(r.far.pid, SIGKILL);
	assert_int_equal(waitpid(r.far.pid, NULL, 0), r.far.pid);
	assert_int_equal(look(&r, &e), -ESRCH);
	assert_non_null(strstr(e.text, "ended"));
	teardown(&r);
}

static void refuses(void **state)
{
	struct attach_ram ram[8];
	struct attach *second = NULL;
	static struct rig r;
	struct err e;
	int n;

	(void)state;
	setup(&r);
	n = far_mappings(r.far.pid, &r.map, ram, 8, &e);
	assert_int_equal(n, 1);
	/* Twice. */
	assert_int_equal(
		attach_open(&second, NULL, r.far.pid, r.far.pidfd, ram, (unsigned)n, &e), -EBUSY);
	assert_null(second);
	assert_non_null(strstr(e.text, "another userfaultfd"));
	assert_int_equal(registered(r.far.pid), 1);
	/* Not where it was said. */
	ram[0].offset += PAGE_BYTES;
	assert_int_equal(attach_open(&second, NULL, r.far.pid, r.far.pidfd, ram, 1, &e), -EINVAL);
	ram[0].offset -= PAGE_BYTES;
	/* At one more place. */
	assert_int_equal(far_do(&r.far, FAR_REMAP, 0, 0, 0), 0);
	assert_int_equal(attach_open(&second, NULL, r.far.pid, r.far.pidfd, ram, 1, &e), -EINVAL);
	assert_non_null(strstr(e.text, "more places"));
	/* Nothing. */
	assert_int_equal(attach_open(&second, NULL, r.far.pid, r.far.pidfd, ram, 0, &e), -EINVAL);
	teardown(&r);
}

static void behind_our_back(void **state)
{
	static const enum far_order orders[] = {FAR_UNMAP, FAR_REMAP};
	static struct rig r;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct err e = {0};

		setup(&r);
		track(&r);
		assert_true(look(&r, &e) >= 0);
		assert_int_equal(far_do(&r.far, orders[i], 0, 0, 0), 0);
		assert_int_equal(look(&r, &e), -ESTALE);
		assert_int_equal(e.errnum, ESTALE);
		assert_non_null(strstr(e.text, i == 0 ? "any more" : "more places"));
		teardown(&r);
	}
	for (int by = -1; by <= 1; by += 2) {
		struct err e = {0};

		setup(&r);
		track(&r);
		assert_int_equal(
			ftruncate(r.map.r[0].fd, ((int)PAGES + by) * (off_t)PAGE_BYTES), 0);
		assert_int_equal(look(&r, &e), -ESTALE);
		assert_non_null(strstr(e.text, "size"));
		teardown(&r);
	}
}

/* Law 2: what an io_uring reads into registered memory lands in pinned pages, and is not seen. */
static void fixed_buffers_escape(void **state)
{
	static struct findings found;
	struct err e = {0};
	static struct rig r;
	uint8_t byte = 0;
	int rc;

	(void)state;
	setup(&r);
	track(&r);
	far_do(&r.far, FAR_WRITE, 5, 1, 0);
	rc = far_do(&r.far, FAR_PIN, 5, 0, 0);
	if (rc < 0) {
		print_message("no io_uring here: %s\n", strerror(-rc));
		teardown(&r);
		skip();
	}
	arm_all(&r);
	assert_int_equal(look(&r, &e), 0);
	assert_int_equal(far_do(&r.far, FAR_FIXED, 5, 0, 0), 0);
	assert_int_equal(pread(r.map.r[0].fd, &byte, 1, 5 * PAGE_BYTES + 100), 1);
	assert_int_equal(byte, 'x');       /* it was written, */
	assert_int_equal(look(&r, &e), 0); /* and nobody saw. */
	memset(&found, 0, sizeof(found));
	attach_check(NULL, r.far.pid, NULL, 0, &found);
	assert_int_equal(found.n, 1);
	assert_string_equal(found.f[0].name, "io-uring");
	teardown(&r);
}

static int possible(void)
{
	static struct rig r;
	struct err e = {0};
	int rc = uffd_open();

	if (rc < 0) {
		printf("userfaultfd: %s\n", strerror(-rc));
		return 0;
	}
	close(rc);
	rc = start(&r, &e);
	teardown(&r);
	if (rc == -EPERM) {
		printf("%s\n", e.text);
		return 0;
	}
	return 1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leaves_nothing),
		cmocka_unit_test(daemon_dies),
		cmocka_unit_test(vmm_dies),
		cmocka_unit_test(refuses),
		cmocka_unit_test(behind_our_back),
		cmocka_unit_test(fixed_buffers_escape),
	};

	if (!possible())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
