// SPDX-License-Identifier: BSD-3-Clause
// The dirty-log flag of a KVM memory slot. Run by the agent's thread, in the VMM's process.

#include "memslot.h"

#include "ioctl.h"

#include <linux/kvm.h>

int memslot_log(int vm_fd, const struct region *r, const struct view *v, uint32_t flags, bool on)
{
	struct kvm_userspace_memory_region slot = {
		.slot = memslot_id(v),
		.flags = (flags & ~KVM_MEM_LOG_DIRTY_PAGES) | (on ? KVM_MEM_LOG_DIRTY_PAGES : 0),
		.guest_phys_addr = v->gpa,
		.memory_size = v->bytes,
		.userspace_addr = (uintptr_t)r->base + v->offset_bytes,
	};

	return ioctl_ptr(vm_fd, KVM_SET_USER_MEMORY_REGION, &slot);
}
