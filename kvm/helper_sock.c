// SPDX-License-Identifier: BSD-3-Clause
// Messages of the helper's protocol. Run by both ends; no state. What comes is copied before it is
// looked at, and descriptors that nobody asked for are closed.

#include "helper_sock.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "err.h"

#define FDS_SEEN 8 // room for more than the one allowed, to see and close them

int helper_send(int sock, const void *msg, size_t bytes, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)msg, bytes};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (fd >= 0) {
		struct cmsghdr *c;

		h.msg_control = control.buf;
		h.msg_controllen = sizeof(control.buf);
		c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	do
		n = sendmsg(sock, &h, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

static unsigned take_fds(struct msghdr *h, int *fd)
{
	unsigned n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c != NULL; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0);
			at += sizeof(int)) {
			int got;

			memcpy(&got, CMSG_DATA(c) + at, sizeof(got));
			if (n++ == 0)
				*fd = got;
			else
				close(got);
		}
	}
	return n;
}

int helper_recv(int sock, void *msg, size_t bytes, int *fd)
{
	union {
		char buf[CMSG_SPACE(FDS_SEEN * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {msg, bytes};
	struct msghdr h = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf)};
	unsigned nfds;
	ssize_t n;

	*fd = -1;
	do
		n = recvmsg(sock, &h, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	nfds = take_fds(&h, fd);
	if (n == 0)
		return 0;
	if ((size_t)n == bytes && nfds <= 1 && (h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0)
		return 1;
	close_fd(fd);
	return -EPROTO;
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
