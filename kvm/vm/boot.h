/* SPDX-License-Identifier: BSD-3-Clause */
/* Puts a fresh guest into memory: parameters, program, page tables, counts, content. */
#ifndef GODWIT_VM_BOOT_H
#define GODWIT_VM_BOOT_H

#include "memory.h"
#include "option.h"

/* 0, or -EINTR: the program is to end. */
int boot_guest(struct memory *m, const struct option_set *o);

#endif
