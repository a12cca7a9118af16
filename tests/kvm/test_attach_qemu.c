// SPDX-License-Identifier: BSD-3-Clause
// A QEMU under TCG, attached to while its guest writes: the copy that a migration's passes make
// must equal its RAM once it is stopped; and QEMU goes on whoever dies.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attach.h"
#include "bits.h"
#include "inject.h"
#include "qemu_guest.h"
#include "source.h"
#include "uffd.h"
#include "victim.h"

#define PASSES 6u
#define CHUNKS (QEMU_GUEST_BYTES / CHUNK_BYTES)

static struct qemu_guest q;

struct copying {
	const uint8_t *ram;
	uint8_t *copy;
};

static int copy_pages(void *arg, uint64_t page, uint64_t n)
{
	struct copying *c = arg;

	memcpy(c->copy + page * PAGE_BYTES, c->ram + page * PAGE_BYTES, n * PAGE_BYTES);
	return 0;
}

/* One pass over what was written since the last. Pages. */
static int64_t pass(struct source *s, struct copying *c, struct err *e)
{
	static uint64_t set[CHUNKS], out[CHUNKS];
	int64_t pages;

	memset(set, 0, sizeof(set));
	memset(out, 0, sizeof(out));
	pages = s->ops->look(s, set, false, e);
	if (pages < 0 || s->ops->arm(s, 0, CHUNKS, set, out, e) < 0)
		fail_msg("%s", e->text);
	for (unsigned i = 0; i < CHUNKS; i++)
		set[i] |= out[i];
	bits_runs(set, 0, CHUNKS * CHUNK_PAGES, copy_pages, c);
	return pages;
}

static void attach_to(struct source_config *c, struct source **s)
{
	struct attach_file f;
	struct err e = {0};

	if (attach_find_ram(q.pid, q.ram, &f, &e) < 0 ||
		attach_open(&c->attach, NULL, q.pid, q.pidfd, f.ram, f.n, &e) < 0 ||
		source_pagemap_scan.open(s, c, &e) < 0 || source_pagemap_scan.start(*s, &e) < 0)
		fail_msg("%s", e.text);
}

static void copy_equals(void **state)
{
	static struct region_map map;
	struct source_config config = {.map = &map, .vm_fd = -1};
	struct copying c;
	struct source *s = NULL;
	struct err e = {0};
	uint64_t differ = 0;

	(void)state;
	region_map_init(&map);
	assert_int_equal(region_add(&map, "ram", q.fd, QEMU_GUEST_BYTES, 4096, &e), 0);
	c.ram = mmap(NULL, QEMU_GUEST_BYTES, PROT_READ, MAP_SHARED, q.fd, 0);
	c.copy = mmap(NULL, QEMU_GUEST_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(c.ram != MAP_FAILED && c.copy != MAP_FAILED);
	attach_to(&config, &s);
	print_message("stopped for %llu us\n",
		(unsigned long long)attach_stopped_ns(config.attach) / 1000);
	for (unsigned i = 0; i < PASSES; i++)
		print_message("%lld pages\n", (long long)pass(s, &c, &e));
	assert_int_equal(qemu_guest_tell(&q, "stop"), 0);
	assert_true(pass(s, &c, &e) > 0);
	assert_int_equal(pass(s, &c, &e), 0);
	for (uint64_t p = 0; p < QEMU_GUEST_BYTES; p += PAGE_BYTES)
		differ += memcmp(c.ram + p, c.copy + p, PAGE_BYTES) != 0;
	assert_int_equal(differ, 0);
	assert_int_equal(qemu_guest_tell(&q, "cont"), 0);
	source_pagemap_scan.close(s);
	attach_close(config.attach);
	munmap((void *)(uintptr_t)c.ram, QEMU_GUEST_BYTES);
	munmap(c.copy, QEMU_GUEST_BYTES);
	region_map_init(&map);
}

static void die_at(void *arg, enum inject_step step)
{
	if (step == *(enum inject_step *)arg)
		kill(getpid(), SIGKILL);
}

static void killed_at_each_step(void **state)
{
	int fds = victim_fds(q.pid);

	(void)state;
	for (enum inject_step step = 0; step < INJECT_STEPS; step++) {
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			struct inject i = {
				.pid = q.pid, .pidfd = q.pidfd, .step = die_at, .arg = &step};
			struct err e;

			_exit(inject_userfaultfd(&i, &e) >= 0 ? 0 : 1);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(qemu_guest_tell(&q, "stop"), 0); /* its main loop is well */
		assert_int_equal(qemu_guest_tell(&q, "cont"), 0);
		/* The thread finishes by itself once it gets its turn. */
		for (unsigned i = 0; victim_fds(q.pid) != fds && i < 6000; i++)
			usleep(10000);
		assert_int_equal(victim_fds(q.pid), fds);
		assert_int_equal(victim_tracer(q.pid), 0);
	}
}

static void nothing_found(void **state)
{
	static struct findings found;
	struct attach_file f;
	struct err e;

	(void)state;
	assert_int_equal(attach_find_ram(q.pid, q.ram, &f, &e), 0);
	attach_check(NULL, q.pid, &f, 1, &found);
	if (found.n != 0)
		fail_msg("%s: %s", found.f[0].name, found.f[0].text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_found),
		cmocka_unit_test(copy_equals),
		cmocka_unit_test(killed_at_each_step),
		cmocka_unit_test(copy_equals),
	};
	struct err e = {0};
	int fd = uffd_open();
	int rc;

	if (fd < 0) {
		printf("userfaultfd: %s\n", strerror(-fd));
		return 77;
	}
	close(fd);
	rc = qemu_guest_open(&q, &e);
	if (rc != 0) {
		printf("%s\n", e.text);
		return rc > 0 ? 77 : 1;
	}
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	qemu_guest_close(&q);
	return rc;
}
