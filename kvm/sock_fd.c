// SPDX-License-Identifier: BSD-3-Clause
// Messages with a file descriptor. Run by any control thread and by the agent's; no state.
// Descriptors that were not asked for are closed, whatever else is wrong with the message.

#include "sock_fd.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "err.h"

#define FDS_SEEN 16 /* room for more than the one allowed, to see and close them */

int sock_fd_send(int sock, const void *msg, size_t bytes, int fd)
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
	if (n >= 0)
		return 0;
	return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
}

/* Takes the descriptors out of a message: the first into *fd, others closed. Returns how many. */
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

ssize_t sock_fd_recv(int sock, void *buf, size_t room, int *fd)
{
	union {
		char buf[CMSG_SPACE(FDS_SEEN * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {buf, room};
	struct msghdr h = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf)};
	int wrong = 0;
	ssize_t n;

	*fd = -1;
	do
		n = recvmsg(sock, &h, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	if (take_fds(&h, fd) > 1 || (h.msg_flags & MSG_CTRUNC) != 0)
		wrong = -EMFILE;
	else if ((h.msg_flags & MSG_TRUNC) != 0)
		wrong = -EMSGSIZE;
	if (wrong != 0 || n == 0)
		close_fd(fd);
	return wrong != 0 ? wrong : n;
}
