// SPDX-License-Identifier: BSD-3-Clause
// A vCPU that stores one word each time it is run. One thread.

#include "guest32.h"

#include "ioctl.h"
#include "memslot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CODE_GPA 0x1000u

struct guest32 {
	int vm, cpu;
	size_t run_bytes;
	struct kvm_run *run;
	uint8_t *code;
	void (*full)(void *arg);
	void *full_arg;
};

int guest32_vm_fd(const struct guest32 *g)
{
	return g != NULL ? g->vm : -1;
}

int guest32_vcpu_fd(const struct guest32 *g)
{
	return g->cpu;
}

void guest32_on_full(struct guest32 *g, void (*fn)(void *arg), void *arg)
{
	g->full = fn;
	g->full_arg = arg;
}

void guest32_close(struct guest32 *g)
{
	if (g == NULL)
		return;
	if (g->run != NULL)
		munmap(g->run, g->run_bytes);
	close_fd(&g->cpu);
	close_fd(&g->vm);
	if (g->code != NULL)
		munmap(g->code, PAGE_BYTES);
	free(g);
}

static int set_flat(int cpu)
{
	struct kvm_segment flat = {.limit = 0xffffffff, .present = 1, .db = 1, .s = 1, .g = 1};
	struct kvm_sregs s;
	int rc = ioctl_ptr(cpu, KVM_GET_SREGS, &s);

	if (rc < 0)
		return rc;
	s.cr0 |= 1;
	s.cs = flat;
	s.cs.type = 11;
	s.cs.selector = 8;
	flat.type = 3;
	flat.selector = 16;
	s.ds = s.es = s.fs = s.gs = s.ss = flat;
	return ioctl_ptr(cpu, KVM_SET_SREGS, &s);
}

static int add_slots(struct guest32 *g, const struct region_map *map)
{
	/* mov %ebx, (%eax); add $4096, %eax; loop; hlt */
	static const uint8_t code[] = {0x89, 0x18, 0x05, 0x00, 0x10, 0x00, 0x00, 0xe2, 0xf7, 0xf4};
	struct kvm_userspace_memory_region slot = {
		.guest_phys_addr = CODE_GPA, .memory_size = PAGE_BYTES};
	int rc;

	g->code =
		mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->code == MAP_FAILED) {
		g->code = NULL;
		return -errno;
	}
	memcpy(g->code, code, sizeof(code));
	slot.userspace_addr = (uintptr_t)g->code;
	rc = ioctl_ptr(g->vm, KVM_SET_USER_MEMORY_REGION, &slot);
	for (unsigned i = 0; rc == 0 && i < map->n; i++)
		for (unsigned j = 0; rc == 0 && j < map->r[i].nviews; j++)
			rc = memslot_log(g->vm, &map->r[i], &map->r[i].views[j], 0, false);
	return rc;
}

static int make_vcpu(struct guest32 *g, int kvm)
{
	int bytes = ioctl_val(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	g->cpu = ioctl_val(g->vm, KVM_CREATE_VCPU, 0);
	if (bytes < 0 || g->cpu < 0)
		return bytes < 0 ? bytes : g->cpu;
	g->run_bytes = (size_t)bytes;
	g->run = mmap(NULL, g->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, g->cpu, 0);
	if (g->run == MAP_FAILED) {
		g->run = NULL;
		return -errno;
	}
	return set_flat(g->cpu);
}

/* Before the first vCPU. */
static int enable_ring(struct guest32 *g, uint32_t bytes)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL, .args = {bytes}};

	return bytes == 0 ? 0 : ioctl_ptr(g->vm, KVM_ENABLE_CAP, &cap);
}

int guest32_open(
	struct guest32 **out, const struct region_map *map, uint32_t ring_bytes, struct err *e)
{
	_cleanup_(close_fd) int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	struct guest32 *g;
	int rc;

	if (kvm < 0) {
		err_sys(e, errno, "no /dev/kvm");
		return 1;
	}
	g = calloc(1, sizeof(*g));
	if (g == NULL)
		return -ENOMEM;
	g->cpu = -1;
	g->vm = ioctl_val(kvm, KVM_CREATE_VM, 0);
	rc = g->vm < 0 ? g->vm : enable_ring(g, ring_bytes);
	if (rc == 0)
		rc = add_slots(g, map);
	if (rc == 0)
		rc = make_vcpu(g, kvm);
	if (rc < 0) {
		err_sys(e, -rc, "KVM makes no VM here");
		guest32_close(g);
		return 1;
	}
	*out = g;
	return 0;
}

void guest32_fill(struct guest32 *g, uint32_t gpa, uint32_t value, uint32_t n)
{
	struct kvm_regs regs = {.rip = CODE_GPA, .rax = gpa, .rbx = value, .rcx = n, .rflags = 2};
	int rc = ioctl_ptr(g->cpu, KVM_SET_REGS, &regs);

	while (rc == 0) {
		rc = ioctl_val(g->cpu, KVM_RUN, 0);
		if (rc < 0 || g->run->exit_reason != KVM_EXIT_DIRTY_RING_FULL || g->full == NULL)
			break;
		g->full(g->full_arg);
	}
	if (rc < 0 || g->run->exit_reason != KVM_EXIT_HLT) {
		fprintf(stderr, "the guest did not write %x: %d, exit %u\n", gpa, rc,
			g->run->exit_reason);
		abort();
	}
}

void guest32_write(struct guest32 *g, uint32_t gpa, uint32_t value)
{
	guest32_fill(g, gpa, value, 1);
}
