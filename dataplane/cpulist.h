/* SPDX-License-Identifier: BSD-3-Clause */
/* Lists of CPUs as a person writes them: "0", "2-5,8". Control thread only. */
#ifndef GODWIT_DATAPLANE_CPULIST_H
#define GODWIT_DATAPLANE_CPULIST_H

#include "err.h"

#define CPULIST_MAX 64u /* worker lcores of a process */

/* Reads a list in its order; a CPU may stand there twice. Returns how many, or -EINVAL with e set
 * (no number, empty, backwards, too many, a CPU that this process may not use). */
int cpulist_parse(const char *text, unsigned cpu[CPULIST_MAX], struct err *e);

#endif
