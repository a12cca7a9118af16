/* SPDX-License-Identifier: BSD-3-Clause */
/* Tracking a process from outside: how long it stands still for that, and what a look at memory
 * that nobody writes costs. */
#ifndef GODWIT_BENCH_TRACK_H
#define GODWIT_BENCH_TRACK_H

#include <stdbool.h>
#include <sys/types.h>

/* Attaches to process pid, and tracks the file that it maps at path, rounds times; prints a line
 * each. The process should be idle. Returns an exit code. */
int track_bench(pid_t pid, const char *path, unsigned rounds, bool json);

#endif
