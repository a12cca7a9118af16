/* SPDX-License-Identifier: BSD-3-Clause */
/* Programs that lie beside this one and are run by it. */
#ifndef GODWIT_CONTROL_BESIDE_H
#define GODWIT_CONTROL_BESIDE_H

#include <limits.h>

#include "err.h"

#define BESIDE_BYTES (PATH_MAX + 32)

/* The path of program name in this program's own folder. why: ends the sentence "cannot run PATH,
 * which". 0 or -errno with e set: it is not there, or may not be run. */
int beside_find(const char *name, const char *why, char path[BESIDE_BYTES], struct err *e);

#endif
