/* SPDX-License-Identifier: BSD-3-Clause */
/* The state directory: made if it is not there, and held by one daemon at a time, for two that read
 * the same journals would both act on them. */
#ifndef GODWIT_CONTROL_STATEDIR_H
#define GODWIT_CONTROL_STATEDIR_H

#include "err.h"

/* Returns an fd whose close lets go of the directory, or -errno with e set. */
int statedir_hold(const char *dir, struct err *e);

#endif
