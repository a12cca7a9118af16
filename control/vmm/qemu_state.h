/* SPDX-License-Identifier: BSD-3-Clause */
/* The device state of a QEMU's guest, out of it and into it: by QEMU's own migration over a socket
 * whose other end is here, with the RAM left out. */
#ifndef GODWIT_CONTROL_QEMU_STATE_H
#define GODWIT_CONTROL_QEMU_STATE_H

#include <stdint.h>

#include "qemu.h"

/* Saves into a new memfd. The guest is stopped. give_up_fd: once readable, the migration is
 * cancelled, and -ECANCELED returned after QEMU has let go of it. 0 or -errno with e set; QEMU is
 * in no migration then. */
int qemu_save(struct qemu *u, int give_up_fd, int *fd, uint64_t *bytes, struct err *e);
/* Loads bytes of a memfd into a QEMU that waits for a guest; returns once it has all. */
int qemu_load(struct qemu *u, int fd, uint64_t bytes, int give_up_fd, struct err *e);
/* Ends a migration that may be under way, and waits until QEMU has. */
int qemu_cancel(struct qemu *u, struct err *e);

/* A guest that runs: switches learn where it is. 0 or -errno with e set, and it runs all the same.
 */
int qemu_announce(struct qemu *u, struct err *e);
/* The command's arguments. New reference. */
json_t *qemu_announcement(void);

#endif
