// SPDX-License-Identifier: BSD-3-Clause
// Makes holes in RAM files. One thread a session at the target, so that polling cores make no
// system call; it lives as long as the session, and sleeps in short steps because waking it would
// be a system call for the core that queues.
//
// Invariant: when a hole counts as done, its pages read as zeros, whatever the backing page; where
// the file could not be punched, punch_error() says so and the session fails at its barrier.

#include "punch.h"

#include "guard.h"

#include "clock.h"
#include "punch_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// Asleep for as long when there was work lately, and when there was none for some time: a hole of
// the last pass is waited for while the guest is paused.
#define PUNCH_SLEEP_NS      (100 * NS_PER_US)
#define PUNCH_LONG_SLEEP_NS (1 * NS_PER_MS)
#define PUNCH_LATELY        1000u // short sleeps before the long ones

// Of one system call, so that punch_free() need not wait for a hole of a terabyte; or one backing
// page, where that is larger.
#define PUNCH_STEP_BYTES (UINT64_C(64) << 20)

static int punch_file(const struct region *r, uint64_t from, uint64_t to)
{
	int rc;

	if (from >= to)
		return 0;
	do
		rc = fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
			(off_t)(to - from));
	while (rc != 0 && errno == EINTR);
	return rc == 0 ? 0 : errno;
}

// A large backing page is given back only whole; the parts at both ends are written with zeros, as
// not every kernel does that for hugetlbfs.
static int punch_hole(const struct region *r, const struct punch_hole *h)
{
	uint64_t from = h->page << PAGE_SHIFT;
	uint64_t to = from + (h->n << PAGE_SHIFT);
	uint64_t size = r->page_bytes;
	uint64_t first = (from + size - 1) / size * size;
	uint64_t last = to / size * size;

	if (to == r->bytes)
		last = to;
	if (size == PAGE_BYTES || r->base == NULL)
		return punch_file(r, from, to);
	if (first >= last) {
		memset(r->base + from, 0, to - from);
		return 0;
	}
	memset(r->base + from, 0, first - from);
	memset(r->base + last, 0, to - last);
	return punch_file(r, first, last);
}

// The VMM may shrink its file, or leave no huge page: that is this session's error, not the
// process's end.
static int punch_guarded(const struct region *r, const struct punch_hole *h)
{
	struct guard g;
	int rc;

	if (guard_enter(&g) != 0)
		return EFAULT;
	rc = punch_hole(r, h);
	guard_leave();
	return rc;
}

static int punch_in_steps(struct punch *p, struct punch_hole *h)
{
	const struct region *r = &p->map->r[h->region];
	uint64_t step =
		(r->page_bytes > PUNCH_STEP_BYTES ? r->page_bytes : PUNCH_STEP_BYTES) >> PAGE_SHIFT;
	uint64_t end = h->page + h->n;
	int rc = 0;

	while (rc == 0 && h->page < end && !atomic_load_explicit(&p->stop, memory_order_relaxed)) {
		uint64_t next = (h->page / step + 1) * step;

		h->n = (next < end ? next : end) - h->page;
		rc = punch_guarded(r, h);
		h->page += h->n;
	}
	return rc;
}

static void *punch_main(void *arg)
{
	struct punch *p = arg;
	unsigned empty = 0;

	while (!atomic_load_explicit(&p->stop, memory_order_relaxed)) {
		struct punch_hole h;
		struct timespec nap = {0};

		if (punch_ring_next(p, &h)) {
			int rc = punch_in_steps(p, &h);

			if (rc != 0 && punch_error(p) == 0)
				atomic_store_explicit(&p->error, rc, memory_order_relaxed);
			punch_ring_finish(p);
			empty = 0;
			continue;
		}
		empty += empty < PUNCH_LATELY;
		nap.tv_nsec = empty < PUNCH_LATELY ? PUNCH_SLEEP_NS : PUNCH_LONG_SLEEP_NS;
		nanosleep(&nap, NULL);
	}
	return NULL;
}

int punch_new(struct punch **out, struct region_map *map, struct err *e)
{
	struct punch *p = aligned_alloc(CACHE_LINE, sizeof(*p));
	sigset_t all, old;
	int rc;

	if (p == NULL)
		return err_set(e, ENOMEM, "no memory for the queue of holes");
	memset(p, 0, sizeof(*p));
	punch_ring_init(p);
	p->map = map;
	// Signals are the control loop's.
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&p->thread, NULL, punch_main, p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0) {
		free(p);
		return err_sys(e, rc, "cannot start the thread that makes holes");
	}
	(void)pthread_setname_np(p->thread, "godwit-punch");
	*out = p;
	return 0;
}

void punch_free(struct punch *p)
{
	if (p == NULL)
		return;
	atomic_store_explicit(&p->stop, true, memory_order_relaxed);
	pthread_join(p->thread, NULL);
	free(p);
}
