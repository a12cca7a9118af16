// SPDX-License-Identifier: BSD-3-Clause
// Buffers on a NUMA node. Run by control threads when a flow is opened and closed. Memory is
// populated at once, so that a polling core never takes the fault.

#include "mem.h"

#include <numaif.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "region.h"

#define MEM_NODES 1024u // the most that a kernel can have

// Not numa_tonode_memory(), which binds: slower memory is better than none.
void mem_prefer(void *p, size_t bytes, int node)
{
	unsigned long mask[MEM_NODES / (8 * sizeof(unsigned long))] = {0};
	const unsigned bits = 8 * sizeof(mask[0]);

	if (node < 0 || node >= (int)MEM_NODES)
		return;
	mask[(unsigned)node / bits] = 1ul << ((unsigned)node % bits);
	// A kernel without NUMA, or without that node, says so, and has what it has.
	(void)mbind(p, bytes, MPOL_PREFERRED, mask, MEM_NODES + 1, 0);
}

void *mem_new(size_t bytes, int node)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	mem_prefer(p, bytes, node);
	(void)madvise(p, bytes, MADV_HUGEPAGE);
	// Fresh memory is zero: to fill it would write it once more. Linux before 5.14 can't.
	if (madvise(p, bytes, MADV_POPULATE_WRITE) != 0)
		memset(p, 0, bytes);
	return p;
}

// Bytes before the guard, as pages.
static size_t before_guard(size_t bytes)
{
	return (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
}

// From where the pages begin.
static size_t guarded_at(size_t bytes)
{
	return before_guard(bytes) - ((bytes + 63) & ~(size_t)63);
}

void *mem_new_guarded(size_t bytes, int node)
{
	size_t pages = before_guard(bytes);
	uint8_t *p = mem_new(pages + PAGE_BYTES, node);

	if (p == NULL)
		return NULL;
	if (mprotect(p + pages, PAGE_BYTES, PROT_NONE) != 0) {
		mem_free(p, pages + PAGE_BYTES);
		return NULL;
	}
	return p + guarded_at(bytes);
}

void mem_free_guarded(void *p, size_t bytes)
{
	if (p != NULL)
		mem_free((uint8_t *)p - guarded_at(bytes), before_guard(bytes) + PAGE_BYTES);
}

void mem_free(void *p, size_t bytes)
{
	if (p != NULL)
		munmap(p, bytes);
}
