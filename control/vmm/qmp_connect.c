// SPDX-License-Identifier: BSD-3-Clause
// Connecting to a monitor's socket. Never waits: a monitor that is busy with another client lets
// the connection wait in its queue, and greets once that one has gone.

#include "qmp.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int qmp_connect(const char *path, struct err *e)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(sa.sun_path))
		return err_set(e, ENAMETOOLONG, "the path of the QMP socket is longer than %zu: %s",
			sizeof(sa.sun_path) - 1, path);
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(e, errno, "cannot make a socket");
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		int rc = errno == EAGAIN ? err_set(e, EBUSY,
						   "others wait for the QMP socket %s already, and "
						   "it serves one at a "
						   "time; give QEMU a second one",
						   path)
					 : err_sys(e, errno,
						   "cannot connect to the QMP socket %s (does QEMU "
						   "run, with -qmp "
						   "unix:%s,server=on,wait=off?)",
						   path, path);

		close(fd);
		return rc;
	}
	return fd;
}
