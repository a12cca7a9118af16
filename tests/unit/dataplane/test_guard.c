// SPDX-License-Identifier: BSD-3-Clause
// Memory that goes away under a flow, for real: a RAM file that shrinks, a tmpfs that is full. The
// flow ends with a sentence, the process and other flows go on; a SIGBUS elsewhere still kills.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>

#include "guard.h"
#include "pair.h"

static const uint64_t size[] = {2048};

static void poll_until_broken(struct pair *p, struct flow *f)
{
	for (int i = 0; i < 1000000 && atomic_load(&f->error) == 0; i++)
		for (unsigned k = 0; k < PAIR_FLOWS; k++) {
			flow_poll(p->send[k]);
			flow_poll(p->recv[k]);
		}
	assert_int_not_equal(atomic_load(&f->error), 0);
}

static void open_full(struct pair *p, const struct codec_ops *codec)
{
	struct seed s = {.state = 9};

	pair_open(p, size, 1, codec, 1);
	pair_flows(p);
	for (uint64_t b = 0; b < p->from.r[0].bytes; b += 8) {
		uint64_t w = seed_next(&s) & 0xffffff;

		memcpy(p->from.r[0].base + b, &w, 8);
	}
	pair_populated(&p->from, p->dirty.set);
}

// The scan, or the codec's stage, or the sum reads what is not there.
static void source_shrinks(void **state)
{
	const struct codec_ops *codec[] = {NULL, &codec_isal};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct pair p;

		open_full(&p, codec[i]);
		pair_publish(&p, 0);
		assert_return_code(ftruncate(p.from.r[0].fd, 1 << 20), 0);
		poll_until_broken(&p, p.send[0]);
		assert_int_equal(p.send[0]->error, EFAULT);
		assert_non_null(strstr(p.send[0]->why.text, "ram0"));
		assert_non_null(strstr(p.send[0]->why.text, "shrank"));
		assert_false(flow_poll(p.send[0])); // it stays ended
		pair_close(&p);
	}
}

// The kernel reads it: no signal, but an error of the call.
static void source_shrinks_after_packing(void **state)
{
	struct pair p;

	(void)state;
	open_full(&p, NULL);
	pair_publish(&p, 0);
	flow_poll(p.send[0]); // packs a turn's worth; the link has sent none of it
	assert_return_code(ftruncate(p.from.r[0].fd, 0), 0);
	poll_until_broken(&p, p.send[0]);
	assert_non_null(strstr(p.send[0]->why.text, "shrank"));
	pair_close(&p);
}

static void target_shrinks(void **state)
{
	struct pair p;

	(void)state;
	open_full(&p, NULL);
	pair_publish(&p, 0);
	assert_return_code(ftruncate(p.to.r[0].fd, 1 << 20), 0);
	poll_until_broken(&p, p.recv[1]);
	assert_non_null(strstr(p.recv[1]->why.text, "ram0"));
	pair_close(&p);
}

static void target_is_full(void **state)
{
	char dir[] = "/tmp/godwit-guard-XXXXXX";
	char file[64];
	struct pair p;
	int fd;

	(void)state;
	if (mkdtemp(dir) == NULL || unshare(CLONE_NEWNS) != 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
		mount("tmpfs", dir, "tmpfs", 0, "size=1m") != 0) {
		rmdir(dir);
		print_message("a small tmpfs can't be mounted here (not root?): skipped\n");
		skip();
	}
	open_full(&p, NULL);
	snprintf(file, sizeof(file), "%s/ram", dir);
	fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_return_code(fd, 0);
	assert_return_code(ftruncate(fd, (off_t)p.to.r[0].bytes), 0);
	assert_ptr_equal(mmap(p.to.r[0].base, p.to.r[0].bytes, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_FIXED, fd, 0),
		p.to.r[0].base);
	pair_publish(&p, 0);
	poll_until_broken(&p, p.recv[0]);
	assert_non_null(strstr(p.recv[0]->why.text, "used up"));
	pair_close(&p);
	close(fd);
	assert_return_code(umount(dir), 0);
	rmdir(dir);
}

static void elsewhere_it_kills(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(guard_install(), 0);
	pid = fork();
	if (pid == 0) {
		const struct rlimit none = {0};
		int fd = memfd_create("gone", 0);
		volatile char *m = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

		setrlimit(RLIMIT_CORE, &none);
		_exit(*m != 0 ? 1 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(source_shrinks),
		cmocka_unit_test(source_shrinks_after_packing),
		cmocka_unit_test(target_shrinks),
		cmocka_unit_test(target_is_full),
		cmocka_unit_test(elsewhere_it_kills),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
