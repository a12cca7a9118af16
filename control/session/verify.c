// SPDX-License-Identifier: BSD-3-Clause
// The digest of a guest's memory. Helper threads take pieces of the populated extents through an
// atomic cursor; the loop is told through an eventfd. Guest memory is only read, and the guest is
// paused.

#include "verify.h"

#include "bits.h"
#include "clock.h"
#include "guard.h"
#include "hole.h"
#include "zero.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <xxhash.h>

#define VERIFY_THREADS 4u
#define PIECE_BYTES    (UINT64_C(16) << 20)
#define COPY_BYTES     (UINT64_C(128) << 10) /* stays in the core's cache */

struct verify {
	const struct region_map *map;
	const uint64_t *left_out; /* or NULL */
	verify_fn done;
	void *arg;
	struct event *wake;
	int wake_fd;
	uint64_t began;
	pthread_t thread[VERIFY_THREADS];
	unsigned nthreads;
	_Atomic uint64_t next; /* piece to take, numbered through all regions */
	_Atomic bool stop;     /* loop: wo */
	_Atomic unsigned left; /* threads at work */
	_Atomic int status;    /* first -errno of a thread */
	pthread_mutex_t lock;  /* of sum and pages */
	uint64_t sum[2], pages;
};

static void add128(uint64_t sum[2], uint64_t low, uint64_t high)
{
	sum[0] += low;
	sum[1] += high + (sum[0] < low);
}

struct piece {
	struct verify *v;
	unsigned region;
	struct hole_extent known; /* of that region's file: nobody writes it now */
	uint64_t sum[2], pages;
	uint8_t copy[COPY_BYTES] __attribute__((aligned(PAGE_BYTES)));
};

static bool left_out(const struct piece *p, uint64_t offset)
{
	uint64_t first = p->v->map->r[p->region].first_chunk * CHUNK_PAGES;

	return p->v->left_out != NULL && bits_test(p->v->left_out, first + (offset >> PAGE_SHIFT));
}

static void sum_pages(struct piece *p, uint64_t offset, const uint8_t *at, uint64_t bytes)
{
	for (uint64_t i = 0; i < bytes; i += PAGE_BYTES) {
		XXH128_hash_t h;

		if (left_out(p, offset + i) || zero_scan(at + i, 1) != 0)
			continue;
		h = XXH3_128bits_withSeed(at + i, PAGE_BYTES,
			(uint64_t)p->region << 48 ^ ((offset + i) >> PAGE_SHIFT) ^
				UINT64_C(0x5bd1e995));
		add128(p->sum, h.low64, h.high64);
		p->pages++;
	}
}

static int sum_extent(void *arg, uint64_t offset, uint64_t bytes)
{
	struct piece *p = arg;

	sum_pages(p, offset, p->v->map->r[p->region].base + offset, bytes);
	return 0;
}

/* Huge pages: their file system does not tell holes, and to read one through the mapping would
 * allocate it. read(2) gives zeros for it. */
static int sum_copied(struct piece *p, uint64_t offset, uint64_t bytes)
{
	const struct region *r = &p->v->map->r[p->region];

	for (uint64_t at = offset; at < offset + bytes; at += COPY_BYTES) {
		uint64_t n = offset + bytes - at < COPY_BYTES ? offset + bytes - at : COPY_BYTES;
		ssize_t got = pread(r->fd, p->copy, n, (off_t)at);

		if (got != (ssize_t)n)
			return got < 0 ? -errno : -EFAULT;
		sum_pages(p, at, p->copy, n);
	}
	return 0;
}

/* The VMM may shrink its file, or leave no huge page: that ends this session, not the daemon. */
static int sum_piece(struct piece *p, uint64_t offset, uint64_t bytes)
{
	struct guard g;
	int rc;

	if (p->v->map->r[p->region].page_bytes != PAGE_BYTES)
		return sum_copied(p, offset, bytes);
	if (guard_enter(&g) != 0)
		return -EFAULT;
	rc = hole_walk_next(p->v->map->r[p->region].fd, offset, bytes, &p->known, sum_extent, p);
	guard_leave();
	return rc;
}

/* The piece's place, or false when all are taken. */
static bool take_piece(struct verify *v, unsigned *region, uint64_t *offset, uint64_t *bytes)
{
	uint64_t n = atomic_fetch_add_explicit(&v->next, 1, memory_order_relaxed);

	for (unsigned i = 0; i < v->map->n; i++) {
		const struct region *r = &v->map->r[i];
		uint64_t pieces = (r->bytes + PIECE_BYTES - 1) / PIECE_BYTES;

		if (n < pieces) {
			*region = i;
			*offset = n * PIECE_BYTES;
			*bytes =
				r->bytes - *offset < PIECE_BYTES ? r->bytes - *offset : PIECE_BYTES;
			return true;
		}
		n -= pieces;
	}
	return false;
}

static void *work(void *arg)
{
	struct verify *v = arg;
	struct piece p = {.v = v};
	uint64_t offset, bytes, one = 1;
	unsigned region;
	int rc = 0;

	while (rc == 0 && !atomic_load_explicit(&v->stop, memory_order_relaxed) &&
		take_piece(v, &region, &offset, &bytes)) {
		if (region != p.region)
			p.known = (struct hole_extent){0};
		p.region = region;
		rc = sum_piece(&p, offset, bytes);
	}
	if (rc < 0)
		atomic_store(&v->status, rc);
	pthread_mutex_lock(&v->lock);
	add128(v->sum, p.sum[0], p.sum[1]);
	v->pages += p.pages;
	pthread_mutex_unlock(&v->lock);
	/* The last one wakes the loop; its decrement makes all sums visible there. */
	if (atomic_fetch_sub(&v->left, 1) == 1 && write(v->wake_fd, &one, sizeof(one)) < 0)
		atomic_store(&v->status, -errno);
	return NULL;
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct verify *v = arg;
	struct verify_result r = {.status = atomic_load(&v->status)};
	uint64_t n;

	(void)what;
	if (read(fd, &n, sizeof(n)) < 0 || atomic_load(&v->left) != 0)
		return;
	r.pages = v->pages;
	r.ns = clock_ns() - v->began;
	snprintf(r.digest, sizeof(r.digest), "%016llx%016llx", (unsigned long long)v->sum[1],
		(unsigned long long)v->sum[0]);
	v->done(v->arg, &r);
}

int verify_start(struct verify **out, struct event_base *base, const struct region_map *map,
	const uint64_t *left_out, verify_fn done, void *arg, struct err *e)
{
	struct verify *v = calloc(1, sizeof(*v));
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (v == NULL)
		return err_set(e, ENOMEM, "out of memory");
	v->map = map;
	v->left_out = left_out;
	v->done = done;
	v->arg = arg;
	v->began = clock_ns();
	pthread_mutex_init(&v->lock, NULL);
	v->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	v->wake = v->wake_fd >= 0 ? event_new(base, v->wake_fd, EV_READ | EV_PERSIST, on_wake, v)
				  : NULL;
	if (v->wake == NULL) {
		int rc = err_sys(e, errno, "cannot make an eventfd for the digest");

		verify_cancel(v);
		return rc;
	}
	event_add(v->wake, NULL);
	v->nthreads = cpus < 1 ? 1 : cpus > VERIFY_THREADS ? VERIFY_THREADS : (unsigned)cpus;
	atomic_store(&v->left, v->nthreads);
	for (unsigned i = 0; i < v->nthreads; i++) {
		int rc = pthread_create(&v->thread[i], NULL, work, v);

		if (rc != 0) {
			v->nthreads = i;
			verify_cancel(v);
			return err_sys(e, rc, "cannot start a thread for the digest");
		}
	}
	*out = v;
	return 0;
}

void verify_cancel(struct verify *v)
{
	if (v == NULL)
		return;
	atomic_store_explicit(&v->stop, true, memory_order_relaxed);
	for (unsigned i = 0; i < v->nthreads; i++)
		pthread_join(v->thread[i], NULL);
	if (v->wake != NULL)
		event_free(v->wake);
	close_fd(&v->wake_fd);
	pthread_mutex_destroy(&v->lock);
	free(v);
}
