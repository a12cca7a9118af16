// SPDX-License-Identifier: BSD-3-Clause
// userfaultfd in asynchronous write-protect mode. Run by the agent's thread, in the VMM's process.
// The features of Linux 6.7 are named here where the headers lack them; see the kernel's
// Documentation/admin-guide/mm/userfaultfd.rst.

#include "uffd.h"

#include "ioctl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FEATURES                                                                                   \
	((UINT64_C(1) << 12) /* UFFD_FEATURE_WP_HUGETLBFS_SHMEM */ |                               \
		(UINT64_C(1) << 13) /* UFFD_FEATURE_WP_UNPOPULATED */ |                            \
		(UINT64_C(1) << 15) /* UFFD_FEATURE_WP_ASYNC */)

/* A multiple of every huge page that can be tracked. */
#define PIECE_BYTES (UINT64_C(1) << 27)

/* The device first, as it can be given to an unprivileged VMM; the plain call; and the call for
 * faults from user mode only, which is enough: in asynchronous mode no fault is handed over. */
static int make_uffd(void)
{
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd = -1;

	if (dev >= 0) {
		fd = ioctl_val(dev, _IO(0xAA, 0x00), O_CLOEXEC | O_NONBLOCK);
		close(dev);
		if (fd >= 0)
			return fd;
	}
	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == EPERM)
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	return fd < 0 ? -errno : fd;
}

int uffd_begin(int uffd)
{
	struct uffdio_api api = {.api = UFFD_API, .features = FEATURES};

	return ioctl_ptr(uffd, UFFDIO_API, &api);
}

static int open_for(uint64_t features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	int fd = make_uffd();
	int rc;

	if (fd < 0)
		return fd;
	rc = ioctl_ptr(fd, UFFDIO_API, &api);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}

int uffd_open(void)
{
	return open_for(FEATURES);
}

int uffd_open_lookup(void)
{
	return open_for(UFFD_FEATURE_MINOR_HUGETLBFS);
}

int uffd_lookup(int uffd, uint64_t addr, uint64_t bytes)
{
	struct uffdio_register reg = {.range = {addr, bytes}, .mode = UFFDIO_REGISTER_MODE_MINOR};

	return ioctl_ptr(uffd, UFFDIO_REGISTER, &reg);
}

int64_t uffd_lookup_run(int uffd, uint64_t addr, uint64_t bytes)
{
	struct uffdio_continue c;
	int rc;

	/* EAGAIN and nothing mapped: the address space is just being changed. */
	do {
		c = (struct uffdio_continue){
			.range = {addr, bytes}, .mode = UFFDIO_CONTINUE_MODE_DONTWAKE};
		rc = ioctl_ptr(uffd, UFFDIO_CONTINUE, &c);
	} while (rc == -EAGAIN && c.mapped <= 0);
	if (rc == 0 || rc == -EAGAIN)
		return c.mapped;
	return rc == -EFAULT ? 0 : rc;
}

int uffd_track(int uffd, uint64_t addr, uint64_t bytes)
{
	struct uffdio_register reg = {.range = {addr, bytes}, .mode = UFFDIO_REGISTER_MODE_WP};

	return ioctl_ptr(uffd, UFFDIO_REGISTER, &reg);
}

int uffd_protect(int uffd, uint64_t addr, uint64_t bytes)
{
	struct uffdio_writeprotect wp = {
		.range = {addr, bytes}, .mode = UFFDIO_WRITEPROTECT_MODE_WP};
	int rc;

	/* EAGAIN: the address space is just being changed (fork, mremap). */
	do
		rc = ioctl_ptr(uffd, UFFDIO_WRITEPROTECT, &wp);
	while (rc == -EAGAIN);
	return rc;
}

int uffd_untrack(int uffd, uint64_t addr, uint64_t bytes)
{
	/* The kernel walks the page tables with the address space locked, which stops every fault
	 * of the guest (20 ms a GiB): so in pieces. */
	for (uint64_t at = 0; at < bytes; at += PIECE_BYTES) {
		struct uffdio_range range = {
			addr + at, bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES};
		int rc = ioctl_ptr(uffd, UFFDIO_UNREGISTER, &range);

		if (rc < 0)
			return rc;
	}
	return 0;
}
