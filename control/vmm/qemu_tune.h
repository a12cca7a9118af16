/* SPDX-License-Identifier: BSD-3-Clause */
/* QEMU's migration set up for Godwit: device state alone, over one plain socket, as fast as it
 * goes; and all of it back as it was. Commands are objects {"execute", "arguments"} in arrays, so
 * that the keeper can carry out the same ones. */
#ifndef GODWIT_CONTROL_QEMU_TUNE_H
#define GODWIT_CONTROL_QEMU_TUNE_H

#include "qemu.h"

/* Which commands change what is not so already, and which take that back; both new references.
 * incoming: for the side that loads. Changes nothing yet. */
int qemu_tuning(struct qemu *u, bool incoming, json_t **change, json_t **undo, struct err *e);
/* Carries commands out, in order; ends at the first that fails. */
int qemu_run(struct qmp *q, const json_t *commands, struct err *e);

#endif
