/* SPDX-License-Identifier: BSD-3-Clause */
/* Buffers on the NUMA node of the core that uses them. Control thread only. */
#ifndef GODWIT_DATAPLANE_MEM_H
#define GODWIT_DATAPLANE_MEM_H

#include <stddef.h>

/* What [p, p + bytes) gets of memory from now on comes from node where there is some; -1: from
 * anywhere. p: page-aligned. */
void mem_prefer(void *p, size_t bytes, int node);
/* Zero-filled memory, page-aligned and populated, by mem_prefer(). NULL with errno set.
 */
void *mem_new(size_t bytes, int node);
/* bytes as given to mem_new; NULL is allowed. */
void mem_free(void *p, size_t bytes);

/* As mem_new(), aligned to 64 bytes, and right behind its end (bytes rounded up to 64) a page that
 * faults: for memory in which a library decodes what came from outside. */
void *mem_new_guarded(size_t bytes, int node);
void mem_free_guarded(void *p, size_t bytes);

#endif
