// SPDX-License-Identifier: BSD-3-Clause
// Allocates a guest's memory ahead, or maps what is allocated. Helper threads take pieces through
// an atomic cursor; the session's tick asks whether they are done. Content is not touched.

#include "populate.h"

#include "flow.h"
#include "hole.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define POPULATE_THREADS 8u
#define PIECE_BYTES      (UINT64_C(64) << 20) /* or one backing page, where that is larger */

struct populate {
	const struct region_map *map;
	enum populate_how how;
	pthread_t thread[POPULATE_THREADS];
	unsigned nthreads;
	_Atomic uint64_t next; /* piece to take, numbered through all regions */
	_Atomic bool stop;     /* control: wo */
	_Atomic unsigned left; /* threads at work */
	/* The first failure; errnum is written last. */
	_Atomic bool failing;
	unsigned region;
	uint64_t offset_bytes;
	_Atomic int errnum;
};

static bool take_piece(struct populate *p, unsigned *region, uint64_t *offset, uint64_t *bytes)
{
	uint64_t n = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);

	for (unsigned i = 0; i < p->map->n; i++) {
		const struct region *r = &p->map->r[i];
		uint64_t piece = r->page_bytes > PIECE_BYTES ? r->page_bytes : PIECE_BYTES;
		uint64_t pieces = (r->bytes + piece - 1) / piece;

		if (n < pieces) {
			*region = i;
			*offset = n * piece;
			*bytes = r->bytes - *offset < piece ? r->bytes - *offset : piece;
			return true;
		}
		n -= pieces;
	}
	return false;
}

static void fail(struct populate *p, unsigned region, uint64_t offset, int errnum)
{
	if (atomic_exchange(&p->failing, true))
		return;
	p->region = region;
	p->offset_bytes = offset;
	/* Pairs with the acquire in populate_ready(). */
	atomic_store_explicit(&p->errnum, errnum, memory_order_release);
}

static int advise(const struct region *r, uint64_t offset, uint64_t bytes, int how)
{
	int rc;

	do
		rc = madvise(r->base + offset, bytes, how);
	while (rc != 0 && (errno == EINTR || errno == EAGAIN));
	return rc;
}

static int map_extent(void *arg, uint64_t offset, uint64_t bytes)
{
	const struct region *r = arg;

	advise(r, offset, bytes, MADV_POPULATE_READ);
	return 0;
}

/* What can't be mapped ahead is mapped when it is needed. Huge pages are few. */
static void map_piece(enum populate_how how, const struct region *r, uint64_t offset,
	uint64_t bytes, struct hole_extent *known)
{
	if (how == POPULATE_MAP_DATA && r->page_bytes == PAGE_BYTES)
		hole_walk_next(r->fd, offset, bytes, known, map_extent, (void *)r);
	/* Reading maps for writing too, at a third of the price: the file is shared. */
	else if (how == POPULATE_MAP && recv_job_can_keep(r))
		advise(r, offset, bytes, MADV_POPULATE_READ);
}

static void *work(void *arg)
{
	struct populate *p = arg;
	struct hole_extent known = {0};
	unsigned region, last = 0;
	uint64_t offset, bytes;

	while (!atomic_load_explicit(&p->stop, memory_order_relaxed) &&
		!atomic_load_explicit(&p->failing, memory_order_relaxed) &&
		take_piece(p, &region, &offset, &bytes)) {
		const struct region *r = &p->map->r[region];

		if (region != last)
			known = (struct hole_extent){0};
		last = region;
		if (p->how != POPULATE_ALLOCATE)
			map_piece(p->how, r, offset, bytes, &known);
		else if (advise(r, offset, bytes, MADV_POPULATE_WRITE) != 0)
			fail(p, region, offset, errno);
	}
	/* Pairs with the acquire in populate_ready(): the memory is there. */
	atomic_fetch_sub_explicit(&p->left, 1, memory_order_release);
	return NULL;
}

int populate_start(
	struct populate **out, const struct region_map *map, enum populate_how how, struct err *e)
{
	struct populate *p = calloc(1, sizeof(*p));
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	sigset_t all, old;
	unsigned n;
	int rc = 0;

	if (p == NULL)
		return err_set(e, ENOMEM, "out of memory");
	p->map = map;
	p->how = how;
	n = cpus < 1 ? 1 : cpus > POPULATE_THREADS ? POPULATE_THREADS : (unsigned)cpus;
	atomic_store(&p->left, n);
	/* Signals are the control loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (rc == 0 && p->nthreads < n) {
		rc = pthread_create(&p->thread[p->nthreads], NULL, work, p);
		p->nthreads += rc == 0;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0) {
		populate_free(p);
		return err_sys(e, rc, "cannot start the threads that populate the guest's memory");
	}
	*out = p;
	return 0;
}

int populate_ready(struct populate *p, struct err *e)
{
	int errnum;

	if (atomic_load_explicit(&p->left, memory_order_acquire) != 0)
		return 0;
	errnum = atomic_load_explicit(&p->errnum, memory_order_acquire);
	if (errnum == 0)
		return 1;
	return err_sys(e, errnum == EFAULT ? ENOMEM : errnum,
		"region %s: its memory can't be populated from offset %llu on; free memory on this "
		"host, or receive with --reserve book",
		p->map->r[p->region].name, (unsigned long long)p->offset_bytes);
}

void populate_free(struct populate *p)
{
	if (p == NULL)
		return;
	atomic_store_explicit(&p->stop, true, memory_order_relaxed);
	for (unsigned i = 0; i < p->nthreads; i++)
		pthread_join(p->thread[i], NULL);
	free(p);
}
