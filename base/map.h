/* SPDX-License-Identifier: BSD-3-Clause */
/* Anonymous memory that costs only what is touched, for planes of bits over terabytes. */
#ifndef GODWIT_BASE_MAP_H
#define GODWIT_BASE_MAP_H

#include <stddef.h>

/* Zero-filled memory of the given size, or NULL with errno set. Reading it allocates nothing. */
void *map_lazy(size_t bytes);

/* Gives the content back: the memory reads as zeros again and costs nothing. */
void map_drop(void *p, size_t bytes);

/* Ends the mapping; NULL is allowed. */
void map_free(void *p, size_t bytes);

#endif
