/* SPDX-License-Identifier: BSD-3-Clause */
/* Images that are not made up: the bytes of a file, or of a running process' memory. */
#ifndef GODWIT_BENCH_IMAGE_FROM_H
#define GODWIT_BENCH_IMAGE_FROM_H

#include <stdint.h>
#include <sys/types.h>

/* Fills dst with what a file holds, from its beginning again and again. 0 or -errno; -ENODATA: it
 * holds less than a page. */
int image_from_file(const char *path, uint8_t *dst, uint64_t bytes);

/* The same with the private memory that a process may write to (its heaps, stacks, data), in the
 * order of its addresses, as it is while it is read. Needs the right to trace it. */
int image_from_process(pid_t pid, uint8_t *dst, uint64_t bytes);

#endif
