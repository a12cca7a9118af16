// SPDX-License-Identifier: BSD-3-Clause
// Connecting to a VMM's libgodwit, and one blocking request for what has no session any more. Run
// by the control loop, at start and for `godwit resolve`.

#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

int vmm_agent_connect(const char *path, int flags, struct err *e)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int sock;

	if (strlen(path) >= sizeof(sa.sun_path))
		return err_set(e, ENAMETOOLONG,
			"the path of the VMM's socket is longer than %zu: %s",
			sizeof(sa.sun_path) - 1, path);
	strcpy(sa.sun_path, path);
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
	if (sock < 0)
		return err_sys(e, errno, "cannot make a socket");
	if (connect(sock, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		int rc = err_sys(e, errno,
			"cannot connect to the VMM at %s (is it running, and is this its libgodwit "
			"socket?)",
			path);

		close(sock);
		return rc;
	}
	return sock;
}

static int once(int sock, uint16_t type, uint64_t a, struct agent_msg *m, struct err *e)
{
	struct agent_msg ask = {.type = type, .seq = type, .a = a, .fd = -1};
	int rc = agent_send(sock, &ask);

	if (rc < 0)
		return err_sys(e, -rc, "the VMM does not take requests");
	rc = agent_recv(sock, m, e);
	if (rc == -EAGAIN)
		return err_set(e, ETIMEDOUT, "the VMM does not answer; it may be stopped or stuck");
	if (rc == -EPIPE)
		return err_set(e, EPIPE, "the VMM closed its socket: it has ended");
	close_fd(&m->fd);
	if (rc == 0 && m->status < 0)
		return err_set(e, -m->status, "the VMM refused: %.*s", (int)m->body_bytes,
			(const char *)m->body);
	return rc;
}

int vmm_agent_once(const struct vmm_where *where, struct vmm_word *word, struct err *e)
{
	struct timeval tv = {word->timeout_ms / 1000, (word->timeout_ms % 1000) * 1000};
	/* Connects without waiting: a stopped VMM's queue may be full. */
	_cleanup_(close_fd) int sock = vmm_agent_connect(where->socket, SOCK_NONBLOCK, e);
	struct agent_msg m = {.fd = -1};
	int rc;

	if (sock < 0)
		return sock;
	fcntl(sock, F_SETFL, fcntl(sock, F_GETFL) & ~O_NONBLOCK);
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	rc = once(sock, AGENT_HELLO, AGENT_VERSION, &m, e);
	if (rc < 0)
		return rc;
	word->state = (unsigned)m.a;
	return word->type == AGENT_HELLO ? 0 : once(sock, word->type, word->a, &m, e);
}
