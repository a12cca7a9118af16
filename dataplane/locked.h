/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that this process may still lock or pin (RLIMIT_MEMLOCK). */
#ifndef GODWIT_DATAPLANE_LOCKED_H
#define GODWIT_DATAPLANE_LOCKED_H

#include <stdint.h>

/* Bytes; UINT64_MAX: no limit, or CAP_IPC_LOCK. What is pinned for devices (VmPin) and what is
 * locked (VmLck) both count. root: where /proc is, "" on a host. */
uint64_t locked_left_bytes(const char *root);

#endif
