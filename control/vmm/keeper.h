/* SPDX-License-Identifier: BSD-3-Clause */
/* The keeper of a QEMU's guest: a small process (godwit-keeper) that holds a duplicate of the QMP
 * socket and a list of commands. When the daemon goes, however it goes, the keeper's socket ends,
 * and it has QEMU carry the list out: the guest runs again, and QEMU is as it was. With an empty
 * list it only ends. That is the lease of law 6 for a VMM that knows nothing of Godwit. */
#ifndef GODWIT_CONTROL_KEEPER_H
#define GODWIT_CONTROL_KEEPER_H

#include <jansson.h>
#include <stdbool.h>

#include "err.h"

#define KEEPER_BYTES (64u << 10) /* most of one list */

struct keeper;

/* Can it be started? For those who want to know before they begin. */
int keeper_check(struct err *e);
/* Starts it, with an empty list. qmp_fd is duplicated. 0 or -errno with e set. */
int keeper_new(struct keeper **k, int qmp_fd, struct err *e);
/* Replaces its list: an array of {"execute": ..., "arguments": ...}, carried out in order, each
 * again and again for a while until QEMU takes it. 0: it has the list now. -errno with e set: it
 * has ended, for certain, and will do nothing. */
int keeper_tell(struct keeper *k, const json_t *commands, struct err *e);
/* It has not ended, and does what it was told last once it is let go. k: NULL is allowed. */
bool keeper_there(const struct keeper *k);
/* Ends it: it does nothing any more, for certain. At once, whatever it is at. NULL is allowed. */
void keeper_end(struct keeper *k);
/* Lets go: it carries out what its list says. NULL is allowed. */
void keeper_free(struct keeper *k);

/* What the keeper itself does (keeper_main.c): fd 0 is the daemon's socket, fd 3 QEMU's. */
enum { KEEPER_FD = 0, KEEPER_QMP_FD = 3 };

#endif
