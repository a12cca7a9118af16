// SPDX-License-Identifier: BSD-3-Clause
// Buffers on a NUMA node. Run by control threads when a flow is opened and closed. Memory is
// populated at once, so that a polling core never takes the fault.

#include "mem.h"

#include <numa.h>
#include <numaif.h>
#include <string.h>
#include <sys/mman.h>

void *mem_new(size_t bytes, int node)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	// Preferred, not bound: slower memory is better than none.
	if (node >= 0 && numa_available() >= 0 && node <= numa_max_node())
		numa_tonode_memory(p, bytes, node);
	(void)madvise(p, bytes, MADV_HUGEPAGE);
	memset(p, 0, bytes);
	return p;
}

void mem_free(void *p, size_t bytes)
{
	if (p != NULL)
		munmap(p, bytes);
}
