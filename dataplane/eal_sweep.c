// SPDX-License-Identifier: BSD-3-Clause
// Removes what a killed process left of its telemetry. Run by the thread that starts EAL. Others
// may sweep, start and end at the same time: each step holds for the folder that was opened, and
// failing is no error.

#include "eal_sweep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "err.h"

#define SOCKET "dpdk_telemetry.v2"

/* A folder of this user, or -errno. */
static int open_own(int base, const char *name)
{
	int fd = openat(base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && st.st_uid == geteuid())
		return fd;
	close(fd);
	return -EPERM;
}

/* The process of NAME-PID; 0: it is no such name. */
static pid_t pid_of(const char *entry, const char *name)
{
	size_t n = strlen(name);
	const char *digits = entry + n + 1;

	if (strncmp(entry, name, n) != 0 || entry[n] != '-' || strlen(digits) > 9 ||
		digits[strspn(digits, "0123456789")] != '\0')
		return 0;
	return (pid_t)strtol(digits, NULL, 10);
}

static bool nobody_listens(int folder)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	_cleanup_(close_fd) int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	/* However long the folder's path is. */
	snprintf(at.sun_path, sizeof(at.sun_path), "/proc/self/fd/%d/" SOCKET, folder);
	return sock >= 0 && connect(sock, (struct sockaddr *)&at, sizeof(at)) < 0 &&
	       errno == ECONNREFUSED;
}

static bool left_behind(int base, const char *entry, pid_t pid)
{
	_cleanup_(close_fd) int folder = -1;

	if (pid <= 0 || kill(pid, 0) == 0 || errno != ESRCH)
		return false;
	folder = open_own(base, entry);
	return folder >= 0 && nobody_listens(folder);
}

int eal_sweep_one(int base, const char *name)
{
	int folder = open_own(base, name);
	const struct dirent *d;
	DIR *dir;

	if (folder < 0)
		return folder;
	dir = fdopendir(folder);
	if (dir == NULL) {
		close(folder);
		return -ENOMEM;
	}
	while ((d = readdir(dir)) != NULL)
		(void)unlinkat(folder, d->d_name, 0);
	closedir(dir);
	return unlinkat(base, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

unsigned eal_sweep(const char *base, const char *name)
{
	DIR *dir = opendir(base);
	const struct dirent *d;
	unsigned gone = 0;

	while (dir != NULL && (d = readdir(dir)) != NULL)
		if (left_behind(dirfd(dir), d->d_name, pid_of(d->d_name, name)) &&
			eal_sweep_one(dirfd(dir), d->d_name) == 0)
			gone++;
	if (dir != NULL)
		closedir(dir);
	return gone;
}
