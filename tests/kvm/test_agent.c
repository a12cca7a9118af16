// SPDX-License-Identifier: BSD-3-Clause
// libgodwit over its real socket: dirty words, the lease, the fence, and the
// target's side.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "bits.h"
#include "vmm.h"

#define ASK(sock, type, a) vmm_ask(sock, type, a, 0, -1, NULL)

static struct vmm vmm;

static void hello_and_regions(void **state)
{
	static struct region_map map;
	struct agent_hello h;
	struct agent_msg m;
	uint64_t *planes;
	struct err e;
	int sock = vmm_start(&vmm, 0);

	(void)state;
	/* What a migration may be under way with stays as it is. */
	assert_int_equal(
		godwit_add_region(vmm.g, "more", vmm.fd, VMM_BYTES, vmm.mem, 4096), -EBUSY);
	assert_int_equal(godwit_add_view(vmm.g, 0, 1, 0, VMM_BYTES, 0, VMM_BYTES, 0), -EBUSY);
	assert_int_equal(vmm_hello(sock, &planes, &h), 0);
	assert_string_equal(h.name, "guest");
	assert_string_equal(h.tracker, "pagemap-scan");
	assert_int_equal(h.nregions, 1);
	assert_int_equal(h.pid, getpid());
	assert_int_equal(vmm_ask(sock, AGENT_REGION, 0, 0, -1, &m), 0);
	assert_int_equal(agent_get_region(&m, &map, &e), 0);
	assert_int_equal(map.r[0].bytes, VMM_BYTES);
	assert_int_equal(map.r[0].nviews, 1);
	/* Sealed against shrinking. */
	assert_true((fcntl(map.r[0].fd, F_GET_SEALS) & F_SEAL_SHRINK) != 0);
	assert_int_equal(ftruncate(map.r[0].fd, 4096), -1);
	region_map_close(&map);
	assert_int_equal(ASK(sock, AGENT_REGION, 1), -EINVAL);
	assert_int_equal(ASK(sock, AGENT_PING, 0), 0);
	munmap(planes, 4 * 16);
	close(sock);
	vmm_close(&vmm);
}

static void dirty_words(void **state)
{
	struct agent_msg m;
	uint64_t *out, *in;
	int sock = vmm_start(&vmm, 0);

	(void)state;
	assert_int_equal(vmm_hello(sock, &out, NULL), 0);
	in = out + 4;
	assert_int_equal(ASK(sock, AGENT_LOOK, 0), -EINVAL); /* not tracking */
	assert_int_equal(vmm_ask(sock, AGENT_TRACK_START, 0, 0, -1, &m), 0);
	assert_int_equal(m.b, 4096);
	assert_int_equal(ASK(sock, AGENT_TRACK_START, 0), 0);
	memset(vmm.mem, 1, VMM_BYTES);
	/* Arm all. */
	memset(in, 0xff, 32);
	assert_int_equal(vmm_ask(sock, AGENT_ARM, 0, 4, -1, &m), 0);
	assert_int_equal(m.a, 0);
	assert_int_equal(vmm_ask(sock, AGENT_LOOK, 0, 0, -1, &m), 0);
	assert_int_equal(m.a, 0);
	/* One write, one page that is told, one put back. */
	vmm.mem[70 * PAGE_BYTES + 5] = 2;
	godwit_wrote(vmm.g, 0, 2 * CHUNK_BYTES - 1, 2);
	memset(in, 0, 32);
	in[3] = 1 << 4;
	assert_int_equal(vmm_ask(sock, AGENT_PUT_BACK, 3, 1, -1, &m), 0);
	assert_int_equal(vmm_ask(sock, AGENT_LOOK, 0, 0, -1, &m), 0);
	assert_int_equal(m.a, 4);
	assert_int_equal(out[0], 0);
	assert_int_equal(out[1], UINT64_C(1) << 63 | 1 << 6);
	assert_int_equal(out[2], 1);
	assert_int_equal(out[3], 1 << 4);
	/* Armed in part; bits past the end and bad ranges do no harm. */
	memset(out, 0, 32);
	in[1] = UINT64_C(1) << 63;
	in[3] = ~UINT64_C(0);
	assert_int_equal(vmm_ask(sock, AGENT_ARM, 1, 3, -1, &m), 0);
	assert_int_equal(vmm_ask(sock, AGENT_LOOK, 1, 0, -1, &m), 0);
	assert_int_equal(out[1], 1 << 6);
	assert_int_equal(out[2], 1);
	assert_int_equal(out[3], 0);
	assert_int_equal(vmm_ask(sock, AGENT_ARM, 3, 2, -1, NULL), -EINVAL);
	assert_int_equal(vmm_ask(sock, AGENT_ARM, 0, 0, -1, NULL), -EINVAL);
	assert_int_equal(vmm_ask(sock, AGENT_ARM, ~UINT64_C(0), 2, -1, NULL), -EINVAL);
	assert_int_equal(ASK(sock, AGENT_TRACK_STOP, 0), 0);
	assert_int_equal(ASK(sock, AGENT_LOOK, 0), -EINVAL);
	munmap(out, 64);
	close(sock);
	vmm_close(&vmm);
}

static void lease_ends_at_eof(void **state)
{
	int sock = vmm_start(&vmm, 0);

	(void)state;
	for (unsigned i = 1; i <= 2; i++) {
		assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
		assert_int_equal(ASK(sock, AGENT_TRACK_START, 0), 0);
		assert_int_equal(ASK(sock, AGENT_THROTTLE, 30), 0);
		assert_int_equal(ASK(sock, AGENT_PAUSE, 0), 0);
		assert_int_equal(ASK(sock, AGENT_PAUSE, 0), 0);
		assert_int_equal(godwit_get_state(vmm.g), GODWIT_PAUSED);
		assert_int_equal(vmm.pauses, i);
		assert_int_equal(vmm.percent, 30);
		close(sock);
		/* The next daemon is served as soon as the lease has ended. */
		sock = vmm_connect(&vmm);
		assert_int_equal(vmm_wait(&vmm, GODWIT_RUNNING), 0);
		assert_int_equal(vmm.resumes, i);
		/* Nothing is tracked for nobody. */
		assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
		assert_int_equal(vmm.tracking, 0);
		assert_int_equal(ASK(sock, AGENT_LOOK, 0), -EINVAL);
		close(sock);
		sock = vmm_connect(&vmm);
	}
	assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
	assert_int_equal(vmm.percent, 100);
	close(sock);
	vmm_close(&vmm);
}

/* Law 2: a writer that nobody sees is refused by its name, whichever comes first. */
static void unseen_writers_are_refused(void **state)
{
	int sock = vmm_start(&vmm, 0), told, unseen;

	(void)state;
	assert_int_equal(godwit_add_writer(vmm.g, "", GODWIT_WRITER_TELLS), -EINVAL);
	assert_int_equal(godwit_add_writer(vmm.g, "x", (enum godwit_writer)7), -EINVAL);
	told = godwit_add_writer(vmm.g, "disk0", GODWIT_WRITER_TELLS);
	assert_true(told >= 0);
	assert_true(godwit_add_writer(vmm.g, "net0", GODWIT_WRITER_LOGS) >= 0);
	unseen = godwit_add_writer(vmm.g, "gpu0", GODWIT_WRITER_UNSEEN);
	assert_true(unseen >= 0);
	assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
	assert_int_equal(ASK(sock, AGENT_TRACK_START, 0), -ENOTSUP);
	assert_int_equal(vmm.tracking, 0);
	godwit_remove_writer(vmm.g, unseen);
	assert_int_equal(ASK(sock, AGENT_TRACK_START, 0), 0);
	/* Plugged in meanwhile: what is seen may come, the other may not. */
	assert_int_equal(godwit_add_writer(vmm.g, "gpu1", GODWIT_WRITER_UNSEEN), -EBUSY);
	assert_true(godwit_add_writer(vmm.g, "net1", GODWIT_WRITER_LOGS) >= 0);
	assert_int_equal(ASK(sock, AGENT_TRACK_STOP, 0), 0);
	unseen = godwit_add_writer(vmm.g, "gpu1", GODWIT_WRITER_UNSEEN);
	assert_true(unseen >= 0);
	godwit_remove_writer(vmm.g, unseen);
	godwit_remove_writer(vmm.g, told);
	while ((told = godwit_add_writer(vmm.g, "many", GODWIT_WRITER_TELLS)) >= 0)
		;
	assert_int_equal(told, -ENOSPC);
	close(sock);
	vmm_close(&vmm);
}

static int dirty_log(int vm_fd)
{
	static uint64_t words[8];
	struct kvm_dirty_log log = {.dirty_bitmap = words};

	return ioctl(vm_fd, KVM_GET_DIRTY_LOG, &log) < 0 ? -errno : 0;
}

/* KVM writes down no pages for a daemon that is gone: the slot has no log any more. */
static void slots_are_let_go(void **state)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, sock;
	struct agent_hello h;
	char why[256] = "";

	(void)state;
	if (kvm < 0) {
		print_message("no /dev/kvm here: %s\n", strerror(errno));
		skip();
	}
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	assert_return_code(vm, errno);
	if (vmm_open_kvm(&vmm, vm, why) < 0)
		fail_msg("%s", why);
	for (unsigned i = 0; i < 2; i++) {
		sock = vmm_connect(&vmm);
		assert_int_equal(vmm_hello(sock, NULL, &h), 0);
		assert_string_equal(h.tracker, "kvm-log");
		assert_int_equal(dirty_log(vm), -ENOENT);
		assert_int_equal(ASK(sock, AGENT_TRACK_START, 0), 0);
		assert_int_equal(dirty_log(vm), 0);
		close(sock);
	}
	sock = vmm_connect(&vmm);
	assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
	assert_int_equal(dirty_log(vm), -ENOENT);
	close(sock);
	vmm_close(&vmm);
	close(vm);
	close(kvm);
}

/* Of the mapping that holds the address: "uw" is userfaultfd's write-protection. */
static bool is_watched(const void *at)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long from, to, a = (uintptr_t)at;
	bool here = false, found = false;
	char line[512];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = a >= from && a < to;
		else if (here && strncmp(line, "VmFlags:", 8) == 0)
			found = strstr(line, " uw ") != NULL;
	}
	fclose(f);
	return found;
}

/* No write faults for a daemon that is gone. */
static void pages_are_let_go(void **state)
{
	struct agent_msg m;
	int sock = vmm_start(&vmm, 0);

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
		assert_false(is_watched(vmm.mem));
		assert_int_equal(vmm_ask(sock, AGENT_TRACK_START, 0, 0, -1, &m), 0);
		assert_true(is_watched(vmm.mem));
		close(sock);
		sock = vmm_connect(&vmm);
	}
	assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
	assert_false(is_watched(vmm.mem));
	close(sock);
	vmm_close(&vmm);
}

/* A guest that does not resume at once is tried again; and godwit_free ends a lease too. */
static void lease_insists(void **state)
{
	int sock = vmm_start(&vmm, 0);

	(void)state;
	assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
	assert_int_equal(ASK(sock, AGENT_PAUSE, 0), 0);
	vmm.fail = -EAGAIN;
	close(sock);
	assert_int_equal(vmm_wait(&vmm, GODWIT_RUNNING), 0);
	assert_int_equal(vmm.resumes, 2);
	sock = vmm_connect(&vmm);
	assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
	assert_int_equal(ASK(sock, AGENT_PAUSE, 0), 0);
	vmm_close(&vmm);
	assert_int_equal(vmm.resumes, 3);
	close(sock);
}

static void fence_holds(void **state)
{
	struct agent_msg m;
	int sock = vmm_start(&vmm, 0);

	(void)state;
	assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
	assert_int_equal(ASK(sock, AGENT_FENCE, 0), -EPERM);
	assert_int_equal(ASK(sock, AGENT_SAVE, 0), -EPERM);
	assert_int_equal(ASK(sock, AGENT_END, 0), -EPERM);
	assert_int_equal(ASK(sock, AGENT_LOAD, 0), -EPERM);
	assert_int_equal(ASK(sock, AGENT_PAUSE, 0), 0);
	assert_int_equal(vmm_ask(sock, AGENT_SAVE, 0, 0, -1, &m), 0);
	assert_int_equal(m.a, 5);
	assert_true(m.fd >= 0);
	close(m.fd);
	assert_int_equal(ASK(sock, AGENT_FENCE, 0), 0);
	close(sock);
	sock = vmm_connect(&vmm);
	assert_int_equal(vmm_ask(sock, AGENT_HELLO, AGENT_VERSION, 0, -1, &m), 0);
	assert_int_equal(m.a, GODWIT_FENCED);
	close(m.fd);
	assert_int_equal(vmm.resumes, 0);
	assert_int_equal(ASK(sock, AGENT_RESUME, 0), -EPERM);
	assert_int_equal(ASK(sock, AGENT_RESUME, 1), 0);
	assert_int_equal(vmm.resumes, 1);
	assert_int_equal(ASK(sock, AGENT_PAUSE, 0), 0);
	assert_int_equal(ASK(sock, AGENT_FENCE, 0), 0);
	assert_int_equal(ASK(sock, AGENT_END, 0), 0);
	assert_int_equal(vmm_wait(&vmm, GODWIT_ENDED), 0);
	/* Its end of the socket closes when the callback is back; nobody is served any more. */
	assert_int_equal(ASK(sock, AGENT_PING, 0), -EPIPE);
	assert_int_equal(vmm.ends, 1);
	assert_int_equal(vmm_connect(&vmm), -1);
	close(sock);
	vmm_close(&vmm);
	assert_int_equal(vmm.resumes, 1);
}

static void incoming(void **state)
{
	int fd = memfd_create("state", MFD_CLOEXEC);
	int sock = vmm_start(&vmm, 1);

	(void)state;
	assert_int_equal(write(fd, "state", 5), 5);
	assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
	assert_int_equal(ASK(sock, AGENT_PAUSE, 0), -EPERM);
	assert_int_equal(ASK(sock, AGENT_RESUME, 0), -EPERM);
	assert_int_equal(ASK(sock, AGENT_TRACK_START, 0), -EPERM);
	assert_int_equal(ASK(sock, AGENT_LOAD, 5), -EINVAL); /* no file */
	assert_int_equal(vmm_ask(sock, AGENT_LOAD, 6, 0, fd, NULL), -EINVAL);
	assert_int_equal(vmm_ask(sock, AGENT_LOAD, 5, 0, fd, NULL), 0);
	assert_int_equal(godwit_get_state(vmm.g), GODWIT_LOADED);
	/* Half installed is not loaded. */
	vmm.fail = -EIO;
	assert_int_equal(vmm_ask(sock, AGENT_LOAD, 5, 0, fd, NULL), -EIO);
	assert_int_equal(ASK(sock, AGENT_RESUME, 0), -EPERM);
	assert_int_equal(vmm_ask(sock, AGENT_LOAD, 5, 0, fd, NULL), 0);
	close(sock);
	assert_int_equal(vmm_wait(&vmm, GODWIT_INCOMING), 0);
	assert_int_equal(vmm.resumes, 0);
	sock = vmm_connect(&vmm);
	assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
	assert_int_equal(vmm_ask(sock, AGENT_LOAD, 5, 0, fd, NULL), 0);
	assert_int_equal(ASK(sock, AGENT_RESUME, 0), 0);
	assert_int_equal(ASK(sock, AGENT_RESUME, 0), 0);
	assert_int_equal(vmm.resumes, 1);
	/* Runs here now: a daemon's end changes nothing. */
	close(sock);
	vmm_close(&vmm);
	assert_int_equal(vmm.resumes, 1);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hello_and_regions),
		cmocka_unit_test(dirty_words),
		cmocka_unit_test(lease_ends_at_eof),
		cmocka_unit_test(unseen_writers_are_refused),
		cmocka_unit_test(slots_are_let_go),
		cmocka_unit_test(pages_are_let_go),
		cmocka_unit_test(lease_insists),
		cmocka_unit_test(fence_holds),
		cmocka_unit_test(incoming),
	};
	char why[256] = "";

	if (vmm_open(&vmm, 0, why) < 0) {
		printf("no VMM without KVM here: %s\n", why);
		return 77;
	}
	vmm_close(&vmm);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
