// SPDX-License-Identifier: BSD-3-Clause
// The socket that libgodwit listens on. Run before the agent's thread starts, and by it at its end.
// A socket that a VMM listens on is never taken away; one that nobody listens on is.

#include "agent.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Removes a stale socket at the path. 0, or -errno with e set. */
static int clear_path(const struct sockaddr_un *addr, struct err *e)
{
	_cleanup_(close_fd) int probe = -1;
	struct stat st;

	if (lstat(addr->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : err_sys(e, errno, "cannot look at %s", addr->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, EEXIST, "%s exists and is no socket; choose another path",
			addr->sun_path);
	probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (probe < 0)
		return err_sys(e, errno, "cannot make a socket");
	if (connect(probe, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN ||
		errno == EPROTOTYPE)
		return err_set(e, EADDRINUSE,
			"another program listens on %s; choose another path or end that program",
			addr->sun_path);
	if (errno != ECONNREFUSED)
		return err_sys(
			e, errno, "cannot tell whether somebody listens on %s", addr->sun_path);
	if (unlink(addr->sun_path) < 0)
		return err_sys(e, errno, "cannot remove the stale socket %s", addr->sun_path);
	return 0;
}

int agent_listen(struct godwit *g, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int rc;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", g->path);
	rc = clear_path(&addr, e);
	if (rc < 0)
		return rc;
	g->listen = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (g->listen < 0)
		return err_sys(e, errno, "cannot make a socket");
	/* The mode of the socket is that of the file that bind makes; no umask is touched. */
	fchmod(g->listen, 0600);
	if (bind(g->listen, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		lstat(g->path, &g->listen_stat) < 0 || listen(g->listen, 8) < 0) {
		rc = err_sys(e, errno, "cannot listen on %s", g->path);
		close_fd(&g->listen);
		return rc;
	}
	return 0;
}

void agent_unlisten(struct godwit *g)
{
	struct stat st;

	if (g->listen < 0)
		return;
	if (lstat(g->path, &st) == 0 && st.st_dev == g->listen_stat.st_dev &&
		st.st_ino == g->listen_stat.st_ino)
		unlink(g->path);
	close_fd(&g->listen);
}
