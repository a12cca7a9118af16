/* SPDX-License-Identifier: BSD-3-Clause */
/* Anonymous memory that costs only what is touched, for planes of bits over terabytes. */
#ifndef GODWIT_BASE_MAP_H
#define GODWIT_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

/* Zero-filled memory of the given size, or NULL with errno set. Reading it allocates nothing. */
void *map_lazy(size_t bytes);

/* Gives the content back: the memory reads as zeros again and costs nothing. */
void map_drop(void *p, size_t bytes);

/* Calls fn for each run of words [first, end) of a plane in a memfd that may not be zero: reading a
 * hole would allocate it, so the file's data extents are asked for. A run reaches to the end of the
 * page that the extent ends in. fd -1: all of it is one run. */
void map_runs(int fd, uint64_t first, uint64_t end,
	void (*fn)(void *arg, uint64_t first, uint64_t end), void *arg);

/* Ends the mapping; NULL is allowed. */
void map_free(void *p, size_t bytes);

#endif
