// SPDX-License-Identifier: BSD-3-Clause
// Regions of the target that a device writes by itself. Run by control threads.
//
// Invariant: while a region is pinned no hole is made in it: the device would go on to write pages
// that are the file's no more. What is to be a hole is written with zeros and kept in `later`;
// once the device has let go, those pages are given back (law 11).

#include "flow.h"

#include "bits.h"
#include "map.h"
#include "punch.h"

#include <errno.h>

int recv_job_pin(struct recv_job *j, unsigned region, struct err *e)
{
	if (j->later == NULL)
		j->later = map_lazy(j->map->nchunks * sizeof(*j->later));
	if (j->later == NULL)
		return err_set(e, ENOMEM, "no memory to track holes");
	j->pinned[region] = true;
	return 0;
}

// Whole backing pages of a run are given back; what is left of it holds zeros.
static bool give_back(struct recv_job *j, unsigned i, uint64_t from, uint64_t to)
{
	const struct region *r = &j->map->r[i];
	uint64_t step = r->page_bytes > PAGE_BYTES ? r->page_bytes / PAGE_BYTES : 1;
	uint64_t first = (from + step - 1) / step * step, last = to / step * step;

	if (first < last && !punch_queue(j->punch, (uint16_t)i, first, last - first))
		return false;
	if (first < last)
		bits_clear_range(j->written + r->first_chunk, first, last - first);
	bits_clear_range(j->later + r->first_chunk, from, to - from);
	return true;
}

// False: the queue is full.
static bool release_region(struct recv_job *j, unsigned i)
{
	const struct region *r = &j->map->r[i];
	const uint64_t *later = j->later + r->first_chunk;
	uint64_t pages = r->bytes >> PAGE_SHIFT, page = 0, from;

	while (page < pages) {
		if (later[page / CHUNK_PAGES] == 0) {
			page = (page / CHUNK_PAGES + 1) * CHUNK_PAGES;
			continue;
		}
		if (!bits_test(later, page)) {
			page++;
			continue;
		}
		for (from = page; page < pages && bits_test(later, page);)
			page++;
		if (!give_back(j, i, from, page))
			return false;
	}
	return true;
}

int recv_job_release(struct recv_job *j, struct err *e)
{
	for (unsigned i = 0; j->later != NULL && i < j->map->n; i++) {
		if (!j->pinned[i])
			continue;
		if (!release_region(j, i))
			return 0;
		j->pinned[i] = false;
	}
	if (!punch_done(j->punch, punch_ticket(j->punch)))
		return 0;
	if (punch_error(j->punch) != 0)
		return err_sys(e, punch_error(j->punch),
			"holes can't be made in the guest's memory file; check that its file "
			"system can punch holes, and its quota");
	return 1;
}
