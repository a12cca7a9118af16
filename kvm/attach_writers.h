/* SPDX-License-Identifier: BSD-3-Clause */
/* Writers of guest memory that tracking by page faults can't see (law 2), as far as the VMM's open
 * files tell: DMA into pinned pages marks a page when it is pinned, and lands later. What has no
 * file to be seen by (vhost-user back ends, which map the RAM; devices told by QMP) is found
 * elsewhere. */
#ifndef GODWIT_KVM_ATTACH_WRITERS_H
#define GODWIT_KVM_ATTACH_WRITERS_H

#include <sys/types.h>

#include "finding.h"

/* Names: io-uring (buffers registered), direct-io (a file open for reading with O_DIRECT), vhost,
 * vfio, rdma, udmabuf, guest-memfd. */
void attach_writers(pid_t pid, struct findings *findings);
/* That which a file of this name, as /proc/PID/fd tells it, would be; or NULL. */
const char *attach_writer_named(const char *name);

#endif
