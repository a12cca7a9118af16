// SPDX-License-Identifier: BSD-3-Clause
// What all flows of a session share at the target, and what its memory files hold from before
// (law 11). Run by control threads.
//
// Old content is punched out, so that an untouched page is known to be zeros; or, in a region whose
// memory was allocated ahead, it is kept: giving it back would cost the allocation that the VMM
// paid for. Then all of the region counts as content, the source is told so and makes holes of
// what it does not send, and `stale` says which pages nobody has spoken of yet.

#include "flow.h"

#include "bits.h"
#include "map.h"
#include "plant.h"
#include "punch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

// Do blocks of the file stand for memory, and is all of it there? In other file systems they also
// count what is no content.
bool recv_job_can_keep(const struct region *r)
{
	struct statfs fs;
	struct stat st;

	return fstatfs(r->fd, &fs) == 0 && fstat(r->fd, &st) == 0 &&
	       (fs.f_type == TMPFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC) &&
	       (uint64_t)st.st_size >= r->bytes &&
	       (uint64_t)st.st_blocks * 512 >= (uint64_t)st.st_size;
}

static void mark(const struct recv_job *j, unsigned i, uint64_t *plane)
{
	const struct region *r = &j->map->r[i];

	bits_set_range(plane + r->first_chunk, 0, r->bytes >> PAGE_SHIFT);
}

// A file that is all hole costs one system call.
static int old_content(struct recv_job *j, uint16_t i, bool keep, struct err *e)
{
	const struct region *r = &j->map->r[i];
	off_t data = lseek(r->fd, 0, SEEK_DATA);
	int flags = fcntl(r->fd, F_GETFL);

	// What is written to it would land at its end.
	if (flags >= 0 && (flags & O_APPEND) != 0)
		return err_set(e, EINVAL,
			"region %s: the VMM opened its file with O_APPEND; open it without",
			r->name);
	if ((data < 0 && errno == ENXIO) || data >= (off_t)r->bytes ||
		plant(PLANT_LAW11_STALE_FILE))
		return 0;
	if (keep && recv_job_can_keep(r)) {
		j->kept[i] = true;
		mark(j, i, j->written);
		mark(j, i, j->stale);
		return 0;
	}
	// The queue is new and holds more than a guest has regions.
	(void)punch_queue(j->punch, i, 0, r->bytes >> PAGE_SHIFT);
	return 0;
}

int recv_job_begin(struct recv_job *j, struct region_map *map, bool keep, struct err *e)
{
	int rc;

	memset(j, 0, sizeof(*j));
	j->map = map;
	j->placed_pass = map_lazy(map->nchunks * sizeof(*j->placed_pass));
	j->written = map_lazy(map->nchunks * sizeof(*j->written));
	j->stale = map_lazy(map->nchunks * sizeof(*j->stale));
	if (j->placed_pass == NULL || j->written == NULL || j->stale == NULL)
		rc = err_set(e, ENOMEM, "no memory to track what was placed");
	else
		rc = punch_new(&j->punch, map, e);
	for (unsigned i = 0; rc == 0 && i < map->n; i++)
		rc = old_content(j, (uint16_t)i, keep, e);
	if (rc < 0)
		recv_job_fini(j);
	return rc;
}

int recv_job_ready(struct recv_job *j, struct err *e)
{
	if (!punch_done(j->punch, punch_ticket(j->punch)))
		return 0;
	if (punch_error(j->punch) != 0)
		return err_sys(e, punch_error(j->punch),
			"cannot punch out what the guest's memory files hold from before; give the "
			"VMM fresh memory");
	return 1;
}

void recv_job_populated(struct recv_job *j)
{
	for (unsigned i = 0; i < j->map->n; i++)
		mark(j, i, j->written);
}

uint64_t recv_job_stale(const struct recv_job *j)
{
	uint64_t pages = 0;

	for (unsigned i = 0; i < j->map->n; i++)
		if (j->kept[i])
			pages += bits_count_range(j->stale + j->map->r[i].first_chunk, 0,
				j->map->r[i].bytes >> PAGE_SHIFT);
	return pages;
}

int recv_job_init(struct recv_job *j, struct region_map *map, bool keep, struct err *e)
{
	int rc = recv_job_begin(j, map, keep, e);

	if (rc < 0)
		return rc;
	while ((rc = recv_job_ready(j, e)) == 0)
		sched_yield();
	if (rc < 0)
		recv_job_fini(j);
	return rc < 0 ? rc : 0;
}

void recv_job_fini(struct recv_job *j)
{
	punch_free(j->punch);
	if (j->map != NULL) {
		map_free(j->placed_pass, j->map->nchunks * sizeof(*j->placed_pass));
		map_free(j->written, j->map->nchunks * sizeof(*j->written));
		map_free(j->stale, j->map->nchunks * sizeof(*j->stale));
		map_free(j->later, j->map->nchunks * sizeof(*j->later));
	}
	memset(j, 0, sizeof(*j));
}
