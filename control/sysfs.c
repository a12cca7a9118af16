// SPDX-License-Identifier: BSD-3-Clause
// Small files of /sys and /proc. No state; run by control threads.

#include "sysfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cores.h"
#include "err.h"

#define PATH_OF(path, fmt)                                                                         \
	do {                                                                                       \
		va_list ap;                                                                        \
		va_start(ap, fmt);                                                                 \
		vsnprintf(path, sizeof(path), fmt, ap);                                            \
		va_end(ap);                                                                        \
	} while (0)

static int read_line(char buf[SYSFS_TEXT], const char *path)
{
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	buf[0] = '\0';
	if (fd < 0)
		return -errno;
	n = read(fd, buf, SYSFS_TEXT - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return 0;
}

int sysfs_text(char buf[SYSFS_TEXT], const char *fmt, ...)
{
	char path[PATH_MAX];

	PATH_OF(path, fmt);
	return read_line(buf, path);
}

int64_t sysfs_number(int64_t fallback, const char *fmt, ...)
{
	char path[PATH_MAX], text[SYSFS_TEXT], *end;
	long long v;

	PATH_OF(path, fmt);
	if (read_line(text, path) < 0 || text[0] == '\0')
		return fallback;
	errno = 0;
	v = strtoll(text, &end, 0);
	return errno != 0 || end == text ? fallback : v;
}

int sysfs_link(char buf[SYSFS_TEXT], const char *fmt, ...)
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *last = target;
	ssize_t n;

	PATH_OF(path, fmt);
	buf[0] = '\0';
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	if (strrchr(target, '/') != NULL)
		last = strrchr(target, '/') + 1;
	if (strlen(last) >= SYSFS_TEXT)
		return -ENAMETOOLONG;
	memcpy(buf, last, strlen(last) + 1);
	return 0;
}

void sysfs_cpus(cpu_set_t *set, const char *fmt, ...)
{
	char path[PATH_MAX], text[SYSFS_TEXT];

	PATH_OF(path, fmt);
	if (read_line(text, path) < 0 || cores_parse(text, set) < 0)
		CPU_ZERO(set);
}

static int shown(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

unsigned sysfs_names(char ***names, const char *fmt, ...)
{
	struct dirent **list = NULL;
	char path[PATH_MAX];
	int n;

	PATH_OF(path, fmt);
	*names = NULL;
	n = scandir(path, &list, shown, alphasort);
	if (n <= 0) {
		free(list);
		return 0;
	}
	*names = calloc((size_t)n, sizeof(**names));
	for (int i = 0; i < n; i++) {
		if (*names != NULL)
			(*names)[i] = strdup(list[i]->d_name);
		free(list[i]);
	}
	free(list);
	return *names != NULL ? (unsigned)n : 0;
}

void sysfs_names_free(char **names, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		free(names[i]);
	free(names);
}
