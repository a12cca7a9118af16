/* SPDX-License-Identifier: BSD-3-Clause */
/* Instructions that stand in a process already, so that none has to be written: x86-64. */
#ifndef GODWIT_KVM_GADGET_H
#define GODWIT_KVM_GADGET_H

#include <stdint.h>
#include <sys/types.h>

#include "err.h"

/* Addresses in the process. */
struct gadgets {
	uint64_t syscall_ret; /* syscall; ret */
	uint64_t pop_rax_ret; /* pop %rax; ret */
	uint64_t to_edi_ret;  /* what %eax holds goes to %edi; ret */
};

/* Looks for them in the executable mappings that belong to files, and in the vDSO. 0, or -errno
 * with e set: ENOENT (there are none), EPERM, ESRCH. */
int gadgets_find(pid_t pid, struct gadgets *g, struct err *e);

#endif
