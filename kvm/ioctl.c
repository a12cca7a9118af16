// SPDX-License-Identifier: BSD-3-Clause
// ioctl() with -errno. Run by any thread but polling cores; no state.

#include "ioctl.h"

#include <errno.h>
#include <sys/ioctl.h>

int ioctl_call_ptr(int fd, unsigned long req, void *arg)
{
	int rc;

	do
		rc = ioctl(fd, req, arg);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : rc;
}

int ioctl_call_val(int fd, unsigned long req, unsigned long val)
{
	int rc;

	do
		rc = ioctl(fd, req, val);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : rc;
}
