/* SPDX-License-Identifier: BSD-3-Clause */
/* Between the parts of attach. */
#ifndef GODWIT_KVM_ATTACH_RAM_H
#define GODWIT_KVM_ATTACH_RAM_H

#include "attach.h"

/* attach_files() without the size of a file and of its pages: one read of /proc/PID/maps. e is not
 * NULL. */
int attach_list(
	struct helper *by, pid_t pid, struct attach_file **files, unsigned *n, struct err *e);

/* attach_check() on behalf of another process: what it maps is no other's. */
void attach_check_for(pid_t ours, pid_t pid, const struct attach_file *files, unsigned n,
	struct findings *findings);

#endif
