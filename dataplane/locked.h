/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that this process may still lock or pin (RLIMIT_MEMLOCK). */
#ifndef GODWIT_DATAPLANE_LOCKED_H
#define GODWIT_DATAPLANE_LOCKED_H

#include <stdint.h>

/* The kernel counts apart, and holds each against the limit by itself: what RDMA devices register
 * (VmPin), and what is mapped through VFIO or mlock()ed (VmLck). */
enum locked_by { LOCKED_BY_RDMA, LOCKED_BY_VFIO };

/* Bytes; UINT64_MAX: no limit, or CAP_IPC_LOCK. root: where /proc is, "" on a host. */
uint64_t locked_left_bytes(const char *root, enum locked_by by);

#endif
