// SPDX-License-Identifier: BSD-3-Clause
// PAGEMAP_SCAN in batches. Run by any thread but polling cores; no state.
// Invariant: what the kernel protected is always told, so nothing may fail between its report and
// fn: the buffer is on the stack, and written to before the call.

#include "pagemap.h"

#include "ioctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define SCAN_PROTECT       (UINT64_C(1) << 0) /* PM_SCAN_WP_MATCHING */
#define SCAN_CHECK_WPASYNC (UINT64_C(1) << 1) /* PM_SCAN_CHECK_WPASYNC */
#define BATCH              512

/* struct page_region and struct pm_scan_arg of linux/fs.h. */
struct scan_region {
	uint64_t start, end, categories;
};

struct scan_arg {
	uint64_t size, flags;
	uint64_t start, end, walk_end;
	uint64_t vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define SCAN_REQUEST _IOWR('f', 16, struct scan_arg)

int pagemap_open(pid_t pid)
{
	char path[40] = "/proc/self/pagemap";
	int fd;

	if (pid != 0)
		snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int pagemap_walk(int fd, const struct pagemap_query *q, uint64_t addr, uint64_t bytes,
	pagemap_fn fn, void *arg)
{
	struct scan_region vec[BATCH];
	struct scan_arg scan = {
		.size = sizeof(scan),
		.flags = q->protect ? SCAN_PROTECT | SCAN_CHECK_WPASYNC : 0,
		.end = addr + bytes,
		.vec = (uintptr_t)vec,
		.vec_len = BATCH,
		.category_inverted = q->inverted,
		.category_mask = q->all,
		.category_anyof_mask = q->any,
		.return_mask = q->report,
	};

	memset(vec, 0, sizeof(vec));
	for (scan.start = addr; scan.start < scan.end; scan.start = scan.walk_end) {
		int n = ioctl_ptr(fd, SCAN_REQUEST, &scan);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			int rc = fn(arg, vec[i].start - addr, vec[i].end - vec[i].start,
				vec[i].categories);

			if (rc != 0)
				return rc;
		}
		if (scan.walk_end <= scan.start)
			return -EIO;
	}
	return 0;
}
