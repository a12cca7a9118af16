// SPDX-License-Identifier: BSD-3-Clause
// One packet of the agent protocol out of and into a socket, with its file descriptor. Run by the
// control loop in the daemon and by the agent's thread; no state.

#include "agent_proto.h"

#include <errno.h>

#include "sock_fd.h"

int agent_send(int sock, const struct agent_msg *m)
{
	uint8_t buf[AGENT_MSG_BYTES];

	return sock_fd_send(sock, buf, agent_encode(m, buf), m->fd);
}

int agent_recv(int sock, struct agent_msg *m, struct err *e)
{
	uint8_t buf[AGENT_MSG_BYTES];
	ssize_t n;
	int rc;

	m->type = 0;
	m->seq = 0;
	m->body_bytes = 0;
	n = sock_fd_recv(sock, buf, sizeof(buf), &m->fd);
	if (n == -EMFILE)
		return err_set(e, EPROTO, "agent message with more than one file descriptor");
	if (n == -EMSGSIZE)
		return err_set(e, EPROTO, "agent message of more than %u bytes", AGENT_MSG_BYTES);
	if (n <= 0)
		return n < 0 ? (int)n : -EPIPE;
	rc = agent_decode(m, buf, (size_t)n, e);
	if (rc < 0)
		close_fd(&m->fd);
	return rc;
}
