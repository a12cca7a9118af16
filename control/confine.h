/* SPDX-License-Identifier: BSD-3-Clause */
/* What the daemon gives up once it has started, so that whoever takes it over gets less. */
#ifndef GODWIT_CONTROL_CONFINE_H
#define GODWIT_CONTROL_CONFINE_H

#include <stddef.h>

#include "err.h"

enum confine_role {
	CONFINE_DAEMON,
	CONFINE_ATTACH, /* godwit-attach, which looks into VMMs */
};

/* Capabilities: of the calling thread and those that it makes later, so before cores are started.
 * Keeps what confine.c lists; nothing can be had back. 0 or -errno with e set. */
int confine_capabilities(enum confine_role role, struct err *e);
/* System calls that the program at work never makes fail with EPERM from now on, for all threads
 * and for what they run; and no program that is run gains rights. After ports and cores are up. */
int confine_calls(enum confine_role role, struct err *e);
/* The numbers of those that fail in either role, whatever their arguments; below 0: this machine
 * has no such call. */
const int *confine_refused(size_t *n);

#endif
