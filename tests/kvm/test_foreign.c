// SPDX-License-Identifier: BSD-3-Clause
// What is read of a foreign process: lines of its mappings, its seccomp filters, and the signal
// frame that is made for one of its threads.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "gadget.h"
#include "procmap.h"
#include "sigframe.h"
#include "sysfilter.h"

#include <unistd.h>

static void mappings(void **state)
{
	static const char *const bad[] = {"", "x", "7f00-7f01", "7f01-7f00 rw-s 0 0:1 5 /x",
		"7f00-7f01 rw 0 0:1 5 /x", "7f00-7f01 rw-s 0 0:1", "[heap]"};
	char file[] =
		"7f0000000000-7f0000400000 rw-s 00200000 00:1a 1234      /dev/shm/a b (deleted)";
	char anon[] = "55d000000000-55d000001000 r-xp 00000000 00:00 0 ";
	struct procmap m;

	(void)state;
	assert_true(procmap_parse(file, &m));
	assert_true(m.read && m.write && !m.exec && m.shared && m.deleted);
	assert_true(m.start == 0x7f0000000000 && m.end == 0x7f0000400000 && m.offset == 0x200000);
	assert_true(m.ino == 1234 && m.dev == makedev(0, 0x1a));
	assert_string_equal(m.path, "/dev/shm/a b");
	assert_true(procmap_parse(anon, &m));
	assert_true(m.exec && !m.write && !m.shared && m.ino == 0 && !m.deleted);
	assert_string_equal(m.path, "");
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char line[64];

		strcpy(line, bad[i]);
		assert_false(procmap_parse(line, &m));
	}
}

static void filters(void **state)
{
	const struct sock_filter deny[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 400, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 2),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 1, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	};
	const struct sock_filter past[] = {BPF_JUMP(BPF_JMP | BPF_JA, 0xffffffff, 0, 0)};
	const struct sock_filter outside[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, sizeof(struct seccomp_data))};
	const struct sock_filter arithmetic[] = {
		BPF_STMT(BPF_LD | BPF_IMM, 20),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_STX, 15),
		BPF_STMT(BPF_ALU | BPF_MUL | BPF_X, 0),
		BPF_STMT(BPF_LDX | BPF_MEM, 15),
		BPF_STMT(BPF_ALU | BPF_DIV | BPF_X, 0),
		BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 2),
		BPF_STMT(BPF_RET | BPF_A, 0),
	};
	struct seccomp_data call = {.nr = SYS_userfaultfd, .args = {1}};

	(void)state;
	assert_int_equal(sysfilter_run(deny, 7, &call), SECCOMP_RET_ERRNO | EPERM);
	call.args[0] = 2;
	assert_int_equal(sysfilter_run(deny, 7, &call), SECCOMP_RET_ALLOW);
	call.nr = SYS_close;
	assert_int_equal(sysfilter_run(deny, 7, &call), SECCOMP_RET_ALLOW);
	call.nr = 400;
	assert_int_equal(sysfilter_run(deny, 7, &call), SECCOMP_RET_ALLOW);
	assert_int_equal(sysfilter_run(past, 1, &call), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(sysfilter_run(outside, 1, &call), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(sysfilter_run(deny, 0, &call), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(sysfilter_run(arithmetic, 8, &call), 80);
	assert_true(sysfilter_passes(SECCOMP_RET_ALLOW) && sysfilter_passes(SECCOMP_RET_LOG));
	assert_false(sysfilter_passes(SECCOMP_RET_ERRNO) || sysfilter_passes(SECCOMP_RET_TRACE) ||
		     sysfilter_passes(SECCOMP_RET_USER_NOTIF));
}

static void restarts(void **state)
{
	struct user_regs_struct r = {.orig_rax = 35, .rax = (unsigned long)-516};

	(void)state;
	assert_true(sigframe_restarts(&r));
	r.rax = (unsigned long)-EINTR;
	assert_false(sigframe_restarts(&r));
	r.rax = (unsigned long)-512;
	assert_true(sigframe_restarts(&r));
	r.orig_rax = (unsigned long)-1; /* in no system call: such a value is the program's own */
	assert_false(sigframe_restarts(&r));
}

static void frames(void **state)
{
	static struct sigframe_thread t;
	static struct sigframe f;
	const uint64_t words[] = {1, 2, 3}, many[SIGFRAME_WORDS_MOST + 1] = {0};
	const uint64_t mask = 3; /* x87 and SSE */

	(void)state;
	t.regs.rsp = 0x7fff00001238;
	assert_int_equal(sigframe_build(&f, &t, words, 3), -EPROTO); /* no registers */
	memcpy(t.xstate + 464, &mask, 8);
	t.xstate_bytes = 576;
	assert_int_equal(sigframe_build(&f, &t, words, 3), 0);
	assert_memory_equal(f.data, words, sizeof(words));
	assert_true(f.addr % 16 == 0 && f.addr + f.bytes <= t.regs.rsp - SIGFRAME_RED_ZONE);
	assert_int_equal(sigframe_build(&f, &t, many, SIGFRAME_WORDS_MOST + 1), -E2BIG);
}

static void own_gadgets(void **state)
{
	struct gadgets g;
	struct err e;

	(void)state;
	assert_int_equal(gadgets_find(getpid(), &g, &e), 0);
	assert_memory_equal((void *)g.syscall_ret, "\x0f\x05\xc3", 3);
	assert_memory_equal((void *)g.pop_rax_ret, "\x58\xc3", 2);
	assert_int_equal(gadgets_find(1 << 30, &g, &e), -ESRCH);
}

/* Code that a compiler in the process made, below all else: it may be gone when it is needed. */
static void no_made_code(void **state)
{
	static const uint8_t code[] = {0x0f, 0x05, 0xc3, 0x58, 0xc3, 0x97, 0xc3};
	int fd = memfd_create("jit", MFD_CLOEXEC);
	uint8_t *at = (uint8_t *)0x20000;
	struct gadgets g;
	struct err e;

	(void)state;
	assert_int_equal(write(fd, code, sizeof(code)), sizeof(code));
	for (int flags = MAP_SHARED; flags <= MAP_PRIVATE; flags++) {
		if (mmap(at, 4096, PROT_READ | PROT_EXEC, flags | MAP_FIXED_NOREPLACE, fd, 0) != at)
			skip();
		assert_int_equal(gadgets_find(getpid(), &g, &e), 0);
		assert_true(g.syscall_ret > (uintptr_t)at + 4096 &&
			    g.pop_rax_ret > (uintptr_t)at + 4096 &&
			    g.to_edi_ret > (uintptr_t)at + 4096);
		munmap(at, 4096);
	}
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mappings),
		cmocka_unit_test(filters),
		cmocka_unit_test(restarts),
		cmocka_unit_test(frames),
		cmocka_unit_test(own_gadgets),
		cmocka_unit_test(no_made_code),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
