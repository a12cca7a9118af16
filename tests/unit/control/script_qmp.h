/* SPDX-License-Identifier: BSD-3-Clause */
/* A QEMU's monitor that answers by a table, in a thread of its own: what a QEMU says that can't be
 * had on a test's host. */
#ifndef SCRIPT_QMP_H
#define SCRIPT_QMP_H

#include <pthread.h>

/* An answer to a command whose arguments hold a text; JSON, or NULL: the command is refused. The
 * first row that fits counts; a command without a row is refused too. */
struct script_row {
	const char *command, *has, *answer;
};

struct script {
	char path[64]; /* of its socket */
	int fd;
	unsigned major;                        /* QEMU's version is major.2.0 */
	const struct script_row *first, *then; /* each ends with a row without a command */
	pthread_t thread;
};

/* Serves one client after the other. */
void script_start(struct script *s);
void script_end(struct script *s);

#endif
