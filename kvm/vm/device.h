/* SPDX-License-Identifier: BSD-3-Clause */
/* A device that writes guest memory while its state is saved, as real ones do: the late write that
 * a migration must carry over. It writes a page of each RAM file. */
#ifndef GODWIT_VM_DEVICE_H
#define GODWIT_VM_DEVICE_H

#include "vm.h"

/* Writes the pages with the next value, tells vm->wrote, and returns the value for the state. */
uint64_t device_save(struct vm *vm);

/* The pages hold what the state names? 0 or -EPROTO with a sentence. */
int device_load(struct vm *vm, uint64_t value, struct err *e);

#endif
