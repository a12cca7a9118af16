/* SPDX-License-Identifier: BSD-3-Clause */
/* The mappings of a process, as /proc/PID/maps tells them (proc(5)). */
#ifndef GODWIT_KVM_PROCMAP_H
#define GODWIT_KVM_PROCMAP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct procmap {
	uint64_t start, end;
	bool read, write, exec, shared;
	uint64_t offset;
	dev_t dev;
	ino_t ino;        /* 0: no file */
	const char *path; /* "" where there is none; lives until the next line is read */
	bool deleted;     /* and cut off the path */
};

/* Takes one line apart, without its newline; it is changed on the way. False: no such line. */
bool procmap_parse(char *line, struct procmap *m);

/* Calls fn for each mapping, by address. fn returns 0 to go on; another value ends the walk and is
 * returned. Otherwise 0 or -errno: ESRCH (no such process), EACCES, EPERM, EPROTO (a line that is
 * none). What changes during the walk may be seen or not. */
typedef int (*procmap_fn)(void *arg, const struct procmap *m);
int procmap_walk(pid_t pid, procmap_fn fn, void *arg);

#endif
