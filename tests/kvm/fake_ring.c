// SPDX-License-Identifier: BSD-3-Clause
// See fake_ring.h. Run by the one thread of a test.

#include "fake_ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bits.h"
#include "ioctl.h"

#define BYTES   4096u
#define ENTRIES (BYTES / (uint32_t)sizeof(struct kvm_dirty_gfn))

const struct fake_show fake_shows[FAKE_SLOTS] = {{0, 128, 0}, {128, 72, 0}, {21, 90, 1}};
struct fake fake;
struct ring_vcpus fake_vcpus = {.ring_bytes = BYTES};
struct region_map fake_map;

static struct fake_slot *slot_of(uint32_t id)
{
	uint32_t slot = id & 0xffff;

	assert_true(slot < FAKE_SLOTS && id >> 16 == fake_shows[slot].as_id);
	return &fake.slot[slot];
}

static int fake_log(const struct kvm_userspace_memory_region *m)
{
	struct fake_slot *s = slot_of(m->slot);
	bool on = (m->flags & KVM_MEM_LOG_DIRTY_PAGES) != 0;

	assert_int_equal(m->memory_size, fake_shows[m->slot & 0xffff].n * PAGE_BYTES);
	if (on && !s->on)
		memset(s->writable, fake.manual ? 0xff : 0, sizeof(s->writable));
	if (on != s->on)
		memset(s->dirty, 0, sizeof(s->dirty));
	s->on = on;
	return 0;
}

static int fake_get(const struct kvm_dirty_log *log)
{
	struct fake_slot *s = slot_of(log->slot);
	size_t bytes = (fake_shows[log->slot & 0xffff].n + 63) / 64 * sizeof(uint64_t);

	if (fake.get_errno != 0)
		return -fake.get_errno;
	if (!fake.bitmap || fake.lies)
		return -ENXIO;
	if (!s->on)
		return -ENOENT;
	memcpy(log->dirty_bitmap, s->dirty, bytes);
	if (fake.manual)
		return 0;
	for (unsigned w = 0; w < FAKE_WORDS; w++)
		s->writable[w] &= ~s->dirty[w];
	memset(s->dirty, 0, sizeof(s->dirty));
	return 0;
}

/* In place of ioctl.c. */
int ioctl_call_ptr(int fd, unsigned long req, void *arg)
{
	const struct kvm_enable_cap *cap = arg;

	assert_int_equal(fd, FAKE_VM_FD);
	if (req == KVM_SET_USER_MEMORY_REGION)
		return fake_log(arg);
	if (req == KVM_GET_DIRTY_LOG)
		return fake_get(arg);
	/* KVM_CLEAR_DIRTY_LOG is not among them: nothing is to be cleared by hand. */
	assert_int_equal(req, KVM_ENABLE_CAP);
	assert_int_equal(cap->cap, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	assert_int_equal(cap->args[0], 0);
	if (fake.refuses != 0)
		return -fake.refuses;
	fake.manual = false;
	fake.takes++;
	return 0;
}

static int fake_reset(void)
{
	int n = 0;

	for (unsigned i = 0; i < FAKE_VCPUS; i++)
		for (;; n++) {
			struct kvm_dirty_gfn *e = &fake.ring[i].e[fake.ring[i].reset % ENTRIES];

			if ((e->flags & KVM_DIRTY_GFN_F_RESET) == 0)
				break;
			bits_clear(slot_of(e->slot)->writable, e->offset);
			e->flags = 0;
			fake.ring[i].reset++;
		}
	return n;
}

int ioctl_call_val(int fd, unsigned long req, unsigned long val)
{
	assert_int_equal(fd, FAKE_VM_FD);
	if (req == KVM_RESET_DIRTY_RINGS)
		return fake_reset();
	assert_int_equal(req, KVM_CHECK_EXTENSION);
	if (val == KVM_CAP_DIRTY_LOG_RING_ACQ_REL)
		return 65536;
	assert_int_equal(val, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	return 3;
}

void fake_vcpu_writes(unsigned vcpu, uint32_t slot, uint32_t page)
{
	struct fake_slot *s = &fake.slot[slot];

	if (!s->on || bits_test(s->writable, page))
		return;
	bits_set(s->writable, page);
	fake.ring[vcpu].e[fake.ring[vcpu].dirty++ % ENTRIES] = (struct kvm_dirty_gfn){
		KVM_DIRTY_GFN_F_DIRTY, fake_shows[slot].as_id << 16 | slot, page};
}

void fake_device_writes(uint32_t slot, uint32_t page)
{
	if (fake.slot[slot].on && fake.bitmap)
		bits_set(fake.slot[slot].dirty, page);
}

static void make_ring(unsigned i)
{
	off_t at = KVM_DIRTY_LOG_PAGE_OFFSET * (off_t)PAGE_BYTES;

	fake_vcpus.fd[i] = memfd_create("ring", MFD_CLOEXEC);
	assert_true(fake_vcpus.fd[i] >= 0);
	assert_int_equal(ftruncate(fake_vcpus.fd[i], at + BYTES), 0);
	fake.ring[i].e =
		mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fake_vcpus.fd[i], at);
	assert_true(fake.ring[i].e != MAP_FAILED);
	fake_vcpus.n = i + 1;
}

int fake_make(void **state)
{
	struct err e;

	(void)state;
	memset(&fake, 0, sizeof(fake));
	fake.bitmap = true;
	for (unsigned i = 0; i < FAKE_VCPUS; i++)
		make_ring(i);
	region_map_init(&fake_map);
	assert_int_equal(region_add(&fake_map, "ram", -1, FAKE_PAGES * PAGE_BYTES, 4096, &e), 0);
	for (uint32_t i = 0; i < FAKE_SLOTS; i++) {
		const struct view v = {i * (UINT64_C(1) << 30), fake_shows[i].first * PAGE_BYTES,
			fake_shows[i].n * PAGE_BYTES, i, fake_shows[i].as_id};

		assert_int_equal(region_add_view(&fake_map.r[0], &v, &e), 0);
	}
	return 0;
}

int fake_drop(void **state)
{
	(void)state;
	for (unsigned i = 0; i < FAKE_VCPUS; i++) {
		munmap(fake.ring[i].e, BYTES);
		close(fake_vcpus.fd[i]);
	}
	region_map_close(&fake_map);
	return 0;
}

bool fake_logs(void)
{
	for (unsigned i = 0; i < FAKE_SLOTS; i++)
		if (fake.slot[i].on)
			return true;
	return false;
}
