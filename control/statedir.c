// SPDX-License-Identifier: BSD-3-Clause
// The state directory. Run by main before the journals are read.

#include "statedir.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int statedir_hold(const char *dir, struct err *e)
{
	_cleanup_(close_fd) int dir_fd = -1;
	int fd;

	if (mkdir(dir, 0700) != 0 && errno != EEXIST)
		return err_sys(e, errno,
			"cannot make the state directory %s: make it, or choose another with "
			"--state-dir",
			dir);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = dir_fd < 0 ? -1 : openat(dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(e, errno,
			"cannot write to the state directory %s: give it to this user, or choose "
			"another "
			"with --state-dir",
			dir);
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		int errnum = errno;

		close(fd);
		if (errnum == EWOULDBLOCK)
			return err_set(e, EBUSY,
				"another godwitd holds the state directory %s: end it, or choose "
				"another "
				"with --state-dir",
				dir);
		return err_sys(e, errnum, "cannot lock the state directory %s", dir);
	}
	return fd;
}
