// SPDX-License-Identifier: BSD-3-Clause
// The KVM machine. Made by the main thread; afterwards only vCPU threads and the agent use it.
// Invariant: without usable KVM it fails with -ENODEV and says why; it never falls back.

#include "machine.h"

#include "ioctl.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

// In the hole below 4 GiB, where Intel's KVM wants a few pages for itself.
#define TSS_GPA      0xfeffd000u
#define IDENTITY_GPA 0xfeffc000u

static int need(const struct vm *vm, int cap, const char *what, struct err *e)
{
	if (ioctl_val(vm->kvm_fd, KVM_CHECK_EXTENSION, cap) > 0)
		return 0;
	return err_set(e, ENODEV, "this host's KVM lacks %s; use a newer kernel, or --soft", what);
}

static int open_kvm(struct vm *vm, struct err *e)
{
	int version;

	vm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm_fd < 0) {
		int errnum = errno;

		err_sys(e, errnum,
			"cannot open /dev/kvm; load the kvm module, ask for permission, or run a "
			"software guest with --soft");
		return -ENODEV;
	}
	version = ioctl_val(vm->kvm_fd, KVM_GET_API_VERSION, 0);
	if (version < 0)
		return err_set(e, ENODEV,
			"/dev/kvm is not KVM (another file lies over it, as containers do to "
			"withhold it); make the real one visible, or run a software guest with "
			"--soft");
	if (version != KVM_API_VERSION)
		return err_set(e, ENODEV,
			"/dev/kvm speaks version %d of its interface, not %d; use --soft", version,
			KVM_API_VERSION);
	if (need(vm, KVM_CAP_USER_MEMORY, "user memory", e) < 0 ||
		need(vm, KVM_CAP_IMMEDIATE_EXIT, "immediate exit", e) < 0 ||
		need(vm, KVM_CAP_XSAVE, "XSAVE", e) < 0 ||
		need(vm, KVM_CAP_VCPU_EVENTS, "vCPU events", e) < 0 ||
		need(vm, KVM_CAP_SREGS2, "SREGS2", e) < 0)
		return -ENODEV;
	vm->vm_fd = ioctl_val(vm->kvm_fd, KVM_CREATE_VM, 0);
	if (vm->vm_fd < 0) {
		err_sys(e, -vm->vm_fd, "KVM cannot make a virtual machine; use --soft");
		return -ENODEV;
	}
	return 0;
}

static int enable_ring(struct vm *vm, struct err *e)
{
	uint32_t bytes = vm->opt.ring * (uint32_t)sizeof(struct kvm_dirty_gfn);
	struct kvm_enable_cap cap = {.cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL, .args = {bytes}};
	int rc = bytes == 0 ? 0 : ioctl_ptr(vm->vm_fd, KVM_ENABLE_CAP, &cap);

	return rc < 0 ? err_sys(e, -rc,
				"this host's KVM gives no dirty rings of %u entries; leave out "
				"--ring",
				vm->opt.ring)
		      : 0;
}

static int add_slots(struct vm *vm, struct err *e)
{
	const struct layout *l = &vm->mem.lay;

	for (unsigned i = 0; i < LAYOUT_SLOTS; i++) {
		const struct slot *s = &l->slots[i];
		struct kvm_userspace_memory_region r = {.slot = i,
			.guest_phys_addr = s->gpa,
			.memory_size = s->bytes,
			.userspace_addr = (uint64_t)(uintptr_t)(vm->mem.base[s->file] + s->offset)};
		int rc = ioctl_ptr(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &r);

		if (rc < 0)
			return err_sys(e, -rc,
				"KVM refuses %llu bytes of memory at %#llx; a sparse guest of this "
				"size needs --soft",
				(unsigned long long)s->bytes, (unsigned long long)s->gpa);
	}
	return 0;
}

int machine_cpuid(const struct vm *vm, union machine_cpuid *c)
{
	c->head.nent = MACHINE_CPUID_MAX;
	return ioctl_ptr(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, &c->head);
}

static int machine_open(struct vm *vm, struct err *e)
{
	uint64_t identity = IDENTITY_GPA;
	int rc = open_kvm(vm, e);

	if (rc < 0)
		return rc;
	rc = ioctl_val(vm->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
	vm->kvm_xsave_bytes = rc > (int)sizeof(struct kvm_xsave) ? (uint32_t)rc : 4096;
	// Only some CPUs need these two, others refuse them; creating vCPUs tells if they matter.
	(void)ioctl_ptr(vm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	(void)ioctl_val(vm->vm_fd, KVM_SET_TSS_ADDR, TSS_GPA);
	vm->kvm_irqchip = ioctl_val(vm->vm_fd, KVM_CREATE_IRQCHIP, 0) == 0;
	rc = enable_ring(vm, e);
	return rc < 0 ? rc : add_slots(vm, e);
}

static int machine_save(struct vm *vm, struct state_out *s, struct err *e)
{
	int rc = machine_state_save(vm, s, e);

	for (unsigned i = 0; rc == 0 && i < vm->nvcpus; i++)
		rc = vcpu_state_save(&vm->vcpus[i], s, e);
	return rc;
}

static int machine_load(struct vm *vm, const struct state_in *s, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < vm->nvcpus; i++)
		rc = vcpu_state_check(&vm->vcpus[i], s, e);
	if (rc == 0)
		rc = machine_state_load(vm, s, e);
	for (unsigned i = 0; rc == 0 && i < vm->nvcpus; i++)
		rc = vcpu_state_load(&vm->vcpus[i], s, e);
	return rc;
}

static void machine_close(struct vm *vm)
{
	for (unsigned i = 0; i < vm->nvcpus; i++)
		vcpu_close(&vm->vcpus[i]);
	close_fd(&vm->vm_fd);
	close_fd(&vm->kvm_fd);
}

const struct engine engine_kvm = {
	.name = "KVM",
	.kind = STATE_KVM,
	.open = machine_open,
	.add = vcpu_open,
	.thread = vcpu_thread,
	.kick = vcpu_kick_all,
	.save = machine_save,
	.load = machine_load,
	.close = machine_close,
};
