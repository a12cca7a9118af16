// SPDX-License-Identifier: BSD-3-Clause
// Lazily populated anonymous memory. Run by control threads only.

#include "map.h"

#include <sys/mman.h>

void *map_lazy(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	/* A huge page for one set bit would cost 2 MiB. */
	madvise(p, bytes, MADV_NOHUGEPAGE);
	return p;
}

void map_drop(void *p, size_t bytes)
{
	madvise(p, bytes, MADV_DONTNEED);
}

void map_free(void *p, size_t bytes)
{
	if (p != NULL)
		munmap(p, bytes);
}
