/* SPDX-License-Identifier: BSD-3-Clause */
/* What a result is of. */
#ifndef GODWIT_BENCH_ABOUT_H
#define GODWIT_BENCH_ABOUT_H

#include <stdio.h>

/* Prints the machine and the versions as members of a JSON object: "machine": {...}. The same as
 * about() of ways.py tells, but for QEMU. */
void about_print(FILE *out);

#endif
