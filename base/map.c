// SPDX-License-Identifier: BSD-3-Clause
// Lazily populated anonymous memory. Run by control threads only.

#include "map.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

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

void map_runs(int fd, uint64_t first, uint64_t end,
	void (*fn)(void *arg, uint64_t first, uint64_t end), void *arg)
{
	off_t at = (off_t)(first * sizeof(uint64_t)), last = (off_t)(end * sizeof(uint64_t));

	while (at < last) {
		off_t data = fd < 0 ? at : lseek(fd, at, SEEK_DATA);
		off_t hole;

		if (data < 0 && errno != ENXIO)
			data = at; /* which is data can't be told: then all of it is */
		if (data < 0 || data >= last)
			return;
		hole = fd < 0 ? last : lseek(fd, data, SEEK_HOLE);
		if (hole < 0 || hole > last)
			hole = last;
		fn(arg, (uint64_t)data / 8, ((uint64_t)hole + 7) / 8);
		at = hole;
	}
}
