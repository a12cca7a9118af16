// SPDX-License-Identifier: BSD-3-Clause
// What this host's kernel offers for finding written pages. Run by any thread; leaves nothing open.

#include "probe.h"

#include "ioctl.h"
#include "pagemap.h"
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <unistd.h>

#ifndef KVM_CAP_DIRTY_LOG_RING_ACQ_REL /* Linux 6.1 */
#define KVM_CAP_DIRTY_LOG_RING_ACQ_REL 223
#endif

static int capability(int kvm, unsigned long which)
{
	int rc = ioctl_val(kvm, KVM_CHECK_EXTENSION, which);

	return rc < 0 ? 0 : rc;
}

int probe_kvm(struct probe_kvm *p)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int version, ring;

	if (kvm < 0)
		return -errno;
	version = ioctl_val(kvm, KVM_GET_API_VERSION, 0);
	if (version < 0) {
		close(kvm);
		return -ENOTTY;
	}
	ring = capability(kvm, KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
	if (ring == 0)
		ring = capability(kvm, KVM_CAP_DIRTY_LOG_RING);
	*p = (struct probe_kvm){
		.manual_protect = capability(kvm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2),
		.ring_bytes = (uint32_t)ring,
		.memslots = capability(kvm, KVM_CAP_NR_MEMSLOTS),
	};
	close(kvm);
	return 0;
}

int probe_uffd(void)
{
	int fd = uffd_open();

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int seen(void *arg, uint64_t offset, uint64_t bytes, uint64_t state)
{
	(void)arg, (void)offset, (void)bytes, (void)state;
	return 0;
}

int probe_pagemap(void)
{
	static const char page[8192]; /* one whole page lies in it */
	const struct pagemap_query q = {.any = PAGEMAP_PRESENT, .report = PAGEMAP_PRESENT};
	const char *at = (const char *)(((uintptr_t)page + 4095) & ~(uintptr_t)4095);
	int fd = pagemap_open(0);
	int rc;

	if (fd < 0)
		return fd;
	rc = pagemap_walk(fd, &q, (uintptr_t)at, 4096, seen, NULL);
	close(fd);
	return rc;
}
