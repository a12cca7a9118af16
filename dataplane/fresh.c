// SPDX-License-Identifier: BSD-3-Clause
// Fresh pages of the target. Run by polling cores: these system calls are made in place of the page
// faults that the same core would take otherwise, and take less of it. Measured with runs of 64
// pages on memfds (`godwit-bench 'fresh/*'`), ns a page, all of it: one core, faults 3900, populate
// and copy 2700, pwrite 1750; two cores on one file, faults 1830, populate 1350, pwrite 1590 (it
// locks the file); a second core that populates ahead of the first 3900, and one that allocates
// ahead of its pwrite 1850. So nothing populates ahead: what a helper's core could do is better
// done by another flow.
//
// Invariant: no page gets memory but those of the frame that is being placed (law 11).

#include "fresh.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define POPULATE_PAGES 4u // fewer cost as much as their faults

// Neither zeroes the pages first nor maps them here, which a guest of terabytes would pay for in
// page tables.
static bool write_file(const struct region *r, uint64_t offset, const uint8_t *pages, size_t bytes)
{
	struct stat st;

	// A write would make a file that shrank grow again, over what is lost.
	if (fstat(r->fd, &st) != 0 || (uint64_t)st.st_size < r->bytes)
		return false;
	while (bytes > 0) {
		ssize_t n = pwrite(r->fd, pages, bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		pages += n;
		offset += (uint64_t)n;
		bytes -= (size_t)n;
	}
	return true;
}

bool fresh_write(const struct region *r, uint64_t offset_bytes, const uint8_t *pages, size_t bytes,
	bool alone)
{
	// A huge page is one fault, and its file system takes no write.
	if (r->page_bytes != PAGE_BYTES)
		return false;
	if (alone)
		return write_file(r, offset_bytes, pages, bytes);
	if (bytes >= POPULATE_PAGES * PAGE_BYTES)
		(void)madvise(r->base + offset_bytes, bytes, MADV_POPULATE_WRITE);
	return false;
}
