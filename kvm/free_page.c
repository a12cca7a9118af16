// SPDX-License-Identifier: BSD-3-Clause
// Free-page reports. Reports come on any thread of the VMM, requests and takes on the agent's.
// Invariant: told holds only what was reported with the id that is current; both change under the
// lock, so that a report is never counted for a request that was made after it.

#include "free_page.h"

#include "pfn.h"

#include <errno.h>

int free_page_init(struct free_page *f, const struct region_map *map)
{
	*f = (struct free_page){.map = map};
	pthread_mutex_init(&f->lock, NULL);
	return marks_init(&f->told, map->nchunks);
}

void free_page_fini(struct free_page *f)
{
	if (f->map == NULL)
		return;
	marks_fini(&f->told);
	pthread_mutex_destroy(&f->lock);
	f->map = NULL;
}

void free_page_request(struct free_page *f, uint32_t id)
{
	pthread_mutex_lock(&f->lock);
	f->id = id;
	f->ended = false;
	marks_drop(&f->told);
	pthread_mutex_unlock(&f->lock);
}

void free_page_poison(struct free_page *f, uint32_t value)
{
	pthread_mutex_lock(&f->lock);
	f->poison = value;
	if (value != 0)
		marks_drop(&f->told);
	pthread_mutex_unlock(&f->lock);
}

bool free_page_usable(struct free_page *f)
{
	bool usable;

	pthread_mutex_lock(&f->lock);
	usable = f->poison == 0;
	pthread_mutex_unlock(&f->lock);
	return usable;
}

/* With the lock held. */
static int check(const struct free_page *f, uint32_t id)
{
	if (f->poison != 0)
		return -EPERM;
	return id == 0 || id != f->id ? -ESTALE : 0;
}

static void mark(void *arg, uint64_t page, uint64_t n)
{
	marks_range(arg, page, n);
}

int free_page_report(struct free_page *f, uint32_t id, uint64_t pfn, uint64_t n)
{
	int rc;

	pthread_mutex_lock(&f->lock);
	rc = check(f, id);
	if (rc == 0 && f->ended)
		rc = -ESTALE;
	if (rc == 0)
		rc = pfn_pages(f->map, pfn, n, mark, &f->told);
	pthread_mutex_unlock(&f->lock);
	return rc;
}

int free_page_end(struct free_page *f, uint32_t id)
{
	int rc;

	pthread_mutex_lock(&f->lock);
	rc = check(f, id);
	if (rc == 0)
		f->ended = true;
	pthread_mutex_unlock(&f->lock);
	return rc;
}

int64_t free_page_take(struct free_page *f, uint32_t id, uint64_t *out, bool *ended)
{
	int64_t pages;

	pthread_mutex_lock(&f->lock);
	pages = check(f, id);
	if (pages == 0) {
		pages = marks_show(&f->told, out);
		if (pages > 0)
			marks_drop(&f->told);
		*ended = f->ended;
	}
	pthread_mutex_unlock(&f->lock);
	return pages;
}
