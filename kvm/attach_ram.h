/* SPDX-License-Identifier: BSD-3-Clause */
/* Between the parts of attach. */
#ifndef GODWIT_KVM_ATTACH_RAM_H
#define GODWIT_KVM_ATTACH_RAM_H

#include "attach.h"

/* attach_files() without the size of a file and of its pages: one read of /proc/PID/maps. e is not
 * NULL. */
int attach_list(pid_t pid, struct attach_file **files, unsigned *n, struct err *e);

#endif
