// SPDX-License-Identifier: BSD-3-Clause
// libgodwit and a guest whose pages KVM tells by a dirty ring: what the daemon is told, and that
// the ring stays empty once the daemon has gone.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "vmm.h"

#define ASK(sock, type, a) vmm_ask(sock, type, a, 0, -1, NULL)
#define ENTRIES            4096u
#define RING_BYTES         (ENTRIES * (uint32_t)sizeof(struct kvm_dirty_gfn))

static struct vmm vmm;
static struct guest32 *guest;
static const struct kvm_dirty_gfn *ring;

/* Entries that KVM has written, and nobody has read. */
static unsigned written(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < ENTRIES; i++)
		n += __atomic_load_n(&ring[i].flags, __ATOMIC_ACQUIRE) == KVM_DIRTY_GFN_F_DIRTY;
	return n;
}

static void ring_is_let_go(void **state)
{
	int sock = vmm_connect(&vmm);
	struct agent_hello h;
	struct agent_msg m;

	(void)state;
	assert_int_equal(vmm_hello(sock, NULL, &h), 0);
	assert_string_equal(h.tracker, "kvm-ring");
	for (unsigned i = 1; i <= 2; i++) {
		assert_int_equal(ASK(sock, AGENT_TRACK_START, 0), 0);
		assert_int_equal(vmm_ask(sock, AGENT_ARM, 0, 4, -1, &m), 0);
		assert_int_equal(written(), 0);
		guest32_fill(guest, VMM_RING_GPA, i, 5);
		assert_int_equal(written(), 5);
		close(sock); /* as a daemon that is killed leaves it */
		sock = vmm_connect(&vmm);
		assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
		guest32_fill(guest, VMM_RING_GPA + CHUNK_BYTES, i, 50);
		assert_int_equal(written(), 0);
	}
	close(sock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(ring_is_let_go)};
	struct err e = {0};
	int rc = vmm_open_ring(&vmm, &guest, RING_BYTES, &e);

	if (rc != 0) {
		print_message("no guest with a dirty ring here: %s\n", e.text);
		return rc == 1 ? 77 : 1;
	}
	ring = mmap(NULL, RING_BYTES, PROT_READ, MAP_SHARED, guest32_vcpu_fd(guest),
		KVM_DIRTY_LOG_PAGE_OFFSET * sysconf(_SC_PAGESIZE));
	if (ring == MAP_FAILED)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	vmm_close(&vmm);
	guest32_close(guest);
	return rc;
}
