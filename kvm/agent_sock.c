// SPDX-License-Identifier: BSD-3-Clause
// One packet of the agent protocol out of and into a socket, with its file descriptor. Run by the
// control loop in the daemon and by the agent's thread; no state. Descriptors that were not asked
// for are closed, whatever else is wrong with the packet.

#include "agent_proto.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS_SEEN 16 /* room for more than the one allowed, to see and close them */

int agent_send(int sock, const struct agent_msg *m)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	uint8_t buf[AGENT_MSG_BYTES];
	struct iovec iov = {buf, agent_encode(m, buf)};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (m->fd >= 0) {
		struct cmsghdr *c;

		h.msg_control = control.buf;
		h.msg_controllen = sizeof(control.buf);
		c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &m->fd, sizeof(int));
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

int agent_recv(int sock, struct agent_msg *m, struct err *e)
{
	union {
		char buf[CMSG_SPACE(FDS_SEEN * sizeof(int))];
		struct cmsghdr align;
	} control;
	uint8_t buf[AGENT_MSG_BYTES];
	struct iovec iov = {buf, sizeof(buf)};
	struct msghdr h = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	unsigned nfds;
	ssize_t n;
	int rc;

	m->type = 0;
	m->seq = 0;
	m->fd = -1;
	m->body_bytes = 0;
	do
		n = recvmsg(sock, &h, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	nfds = take_fds(&h, &m->fd);
	if (n == 0)
		rc = -EPIPE;
	else if (nfds > 1 || (h.msg_flags & MSG_CTRUNC))
		rc = err_set(e, EPROTO, "agent message with more than one file descriptor");
	else if (h.msg_flags & MSG_TRUNC)
		rc = err_set(e, EPROTO, "agent message of more than %u bytes", AGENT_MSG_BYTES);
	else
		rc = agent_decode(m, buf, (size_t)n, e);
	if (rc < 0)
		close_fd(&m->fd);
	return rc;
}
