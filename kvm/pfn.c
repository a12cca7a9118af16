// SPDX-License-Identifier: BSD-3-Clause
// Guest frames to pages. Run by any thread of the VMM; pure.

#include "pfn.h"

#include <errno.h>
#include <stddef.h>

/* How many frames from pfn on one view shows, n at most, and the page that the first is. */
static uint64_t run_at(const struct region_map *map, uint64_t pfn, uint64_t n, uint64_t *page)
{
	for (unsigned i = 0; i < map->n; i++) {
		const struct region *r = &map->r[i];

		for (unsigned j = 0; j < r->nviews; j++) {
			const struct view *v = &r->views[j];
			uint64_t first = v->gpa >> PAGE_SHIFT, count = v->bytes >> PAGE_SHIFT;

			if (v->as_id != 0 || pfn < first || pfn - first >= count)
				continue;
			*page = r->first_chunk * CHUNK_PAGES + (v->offset_bytes >> PAGE_SHIFT) +
				(pfn - first);
			return count - (pfn - first) < n ? count - (pfn - first) : n;
		}
	}
	return 0;
}

int pfn_pages(const struct region_map *map, uint64_t pfn, uint64_t n, pfn_fn fn, void *arg)
{
	for (unsigned told = 0; told < 2; told++) { /* look at all, then tell all */
		for (uint64_t at = 0; at < n;) {
			uint64_t page, run = run_at(map, pfn + at, n - at, &page);

			if (run == 0)
				return -EFAULT;
			if (told)
				fn(arg, page, run);
			at += run;
		}
	}
	return 0;
}
