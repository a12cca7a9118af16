/* SPDX-License-Identifier: BSD-3-Clause */
/* A stock QEMU under TCG with a guest of thirty bytes that writes 64 MiB of its RAM at random, for
 * ever; for tests of tracking from outside. */
#ifndef GODWIT_TESTS_QEMU_GUEST_H
#define GODWIT_TESTS_QEMU_GUEST_H

#include <stdint.h>
#include <sys/types.h>

#include "err.h"

#define QEMU_GUEST_BYTES (UINT64_C(128) << 20)

struct qemu_guest {
	pid_t pid;
	int pidfd;
	int fd; /* of its RAM, on tmpfs, shared with it */
	int qmp;
	char dir[64], ram[96], kernel[96];
};

/* Starts it, and waits until the guest has begun to write. 0, or 1 with the reason to skip in e, or
 * -errno. */
int qemu_guest_open(struct qemu_guest *q, struct err *e);
void qemu_guest_close(struct qemu_guest *q);

/* Stops its vCPU, or lets it go on: "stop", "cont". 0 when QEMU has done it. */
int qemu_guest_tell(struct qemu_guest *q, const char *command);

#endif
