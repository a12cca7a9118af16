// SPDX-License-Identifier: BSD-3-Clause
// Messages of the helper's protocol. Run by both ends; no state. What comes is copied before it is
// looked at.

#include "helper_sock.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "err.h"
#include "sock_fd.h"

int helper_recv(int sock, void *msg, size_t bytes, int *fd)
{
	ssize_t n = sock_fd_recv(sock, msg, bytes, fd);

	if (n == -EPIPE || n == 0)
		return 0;
	if ((size_t)n == bytes)
		return 1;
	close_fd(fd);
	return n < 0 && n != -EMFILE && n != -EMSGSIZE ? (int)n : -EPROTO;
}

int helper_put_list(const void *items, size_t bytes)
{
	int fd = memfd_create("godwit-list", MFD_CLOEXEC);
	const char *at = items;

	while (fd >= 0 && bytes > 0) {
		ssize_t n = write(fd, at, bytes);

		if (n <= 0) {
			int err = n < 0 ? errno : EIO;

			if (err == EINTR)
				continue;
			close(fd);
			return -err;
		}
		at += n;
		bytes -= (size_t)n;
	}
	return fd < 0 ? -errno : fd;
}

int helper_get_list(int fd, void *items, size_t bytes)
{
	struct stat st;
	size_t at = 0;

	if (fd < 0 || fstat(fd, &st) < 0 || (size_t)st.st_size != bytes)
		return -EPROTO;
	while (at < bytes) {
		ssize_t n = pread(fd, (char *)items + at, bytes - at, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EPROTO;
		at += (size_t)n;
	}
	return 0;
}
