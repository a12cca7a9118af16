// SPDX-License-Identifier: BSD-3-Clause
// Reads /proc/PID/maps. Run by control threads; no state.

#include "procmap.h"

#include "err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#define DELETED " (deleted)"

static void fclose_ptr(FILE **f)
{
	if (*f != NULL)
		fclose(*f);
}

bool procmap_parse(char *line, struct procmap *m)
{
	unsigned long long start, end, offset, ino;
	unsigned major, minor;
	size_t len;
	char perms[5];
	int at = 0;

	memset(m, 0, sizeof(*m));
	if (sscanf(line, "%llx-%llx %4s %llx %x:%x %llu%n", &start, &end, perms, &offset, &major,
		    &minor, &ino, &at) != 7 ||
		strlen(perms) != 4 || end <= start)
		return false;
	m->start = start;
	m->end = end;
	m->read = perms[0] == 'r';
	m->write = perms[1] == 'w';
	m->exec = perms[2] == 'x';
	m->shared = perms[3] == 's';
	m->offset = offset;
	m->dev = makedev(major, minor);
	m->ino = (ino_t)ino;
	line += at;
	line += strspn(line, " ");
	len = strlen(line);
	if (len >= strlen(DELETED) && strcmp(line + len - strlen(DELETED), DELETED) == 0) {
		line[len - strlen(DELETED)] = '\0';
		m->deleted = true;
	}
	m->path = line;
	return true;
}

int procmap_walk(pid_t pid, procmap_fn fn, void *arg)
{
	_cleanup_(fclose_ptr) FILE *f = NULL;
	_cleanup_(free_ptr) char *line = NULL;
	size_t room = 0;
	char path[40];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	f = fopen(path, "re");
	if (f == NULL)
		return errno == ENOENT ? -ESRCH : -errno;
	for (errno = 0; (len = getline(&line, &room, f)) > 0; errno = 0) {
		struct procmap m;
		int rc;

		if (line[len - 1] == '\n')
			line[len - 1] = '\0';
		if (!procmap_parse(line, &m))
			return -EPROTO;
		rc = fn(arg, &m);
		if (rc != 0)
			return rc;
	}
	return errno == 0 ? 0 : -errno;
}
