// SPDX-License-Identifier: BSD-3-Clause
// Which windows of the target's memory are registered, seen from the source. Run by the control
// loop; polling cores read keys and say how far they are (link_rdma_pool.h).
//
// Invariants: no more than most windows are asked for, registered or not yet dropped at a time; a
// window is dropped only when no send that used its key can still be on its way; one batch of keys
// is taken back at a time, so a lane that has passed the epoch has passed all of it.

#include "link_rdma_pool.h"

#include "map.h"
#include "mem.h"
#include "plant.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SPARE 4u  // windows that are free for what comes next, at most
#define WORTH 16u // of a window at least one part of so many is near, or it is not asked for
#define REST  64u // turns after a refusal in which nothing is asked for

enum { ABSENT, ASKED, THERE, LEAVING }; // of a window

static size_t keys_bytes(const struct link_rdma_pool *p)
{
	return p->n * sizeof(*p->key);
}

static size_t windows_bytes(const struct link_rdma_pool *p)
{
	return p->n * sizeof(*p->window);
}

static int plan_is_none(struct err *e)
{
	return err_set(e, EPROTO,
		"the target's daemon told windows of its memory that are none; install the same "
		"version on both hosts");
}

static int number_windows(struct link_rdma_pool *p, const struct region_map *map,
	const struct link_rdma_pool_plan *plan, struct err *e)
{
	uint64_t n = 0, bytes = plan->window_bytes;

	if (bytes < LINK_RDMA_POOL_CHUNK * CHUNK_BYTES || bytes > REGION_BYTES_MAX ||
		(bytes & (bytes - 1)) != 0 || plan->most < LINK_RDMA_POOL_LEAST)
		return plan_is_none(e);
	p->shift = (unsigned)__builtin_ctzll(bytes >> CHUNK_SHIFT);
	for (unsigned i = 0; i < map->n; i++) {
		struct link_rdma_pool_region *r = &p->region[i];

		r->base = plan->base[i];
		r->first = (uint32_t)n;
		if (plan->there[i])
			r->n = (uint32_t)((map->r[i].bytes + bytes - 1) / bytes);
		if (r->base > UINT64_MAX - map->r[i].bytes)
			return plan_is_none(e);
		n += r->n;
	}
	p->n = (uint32_t)n;
	p->told = p->most = plan->most < p->n ? plan->most : p->n;
	return p->n > 0 ? 0 : plan_is_none(e);
}

int link_rdma_pool_new(struct link_rdma_pool **out, const struct region_map *map,
	const struct link_rdma_pool_plan *plan, unsigned lanes, struct err *e)
{
	struct link_rdma_pool *p;
	int rc;

	if (lanes == 0 || lanes > LINK_RDMA_POOL_LANES)
		return err_set(e, EINVAL, "rdma: %u flows over windows", lanes);
	p = mem_new(sizeof(*p), -1);
	if (p == NULL)
		return err_set(e, ENOMEM, "rdma: no memory for windows");
	p->nlanes = lanes;
	p->turn = 1;
	rc = number_windows(p, map, plan, e);
	if (rc < 0) {
		link_rdma_pool_free(p);
		return rc;
	}
	// Lazy: they are as many as the guest is large, and what is held is little.
	p->key = map_lazy(keys_bytes(p));
	p->window = map_lazy(windows_bytes(p));
	p->held = calloc(p->most, sizeof(*p->held));
	if (p->key == NULL || p->window == NULL || p->held == NULL) {
		link_rdma_pool_free(p);
		return err_set(e, ENOMEM, "rdma: no memory for windows");
	}
	*out = p;
	return 0;
}

void link_rdma_pool_free(struct link_rdma_pool *p)
{
	if (p == NULL)
		return;
	map_free((void *)(uintptr_t)p->key, keys_bytes(p));
	map_free(p->window, windows_bytes(p));
	free(p->held);
	mem_free(p, sizeof(*p));
}

static void set_key(struct link_rdma_pool *p, uint32_t window, uint64_t key)
{
	atomic_store_explicit(&p->key[window], key, memory_order_relaxed);
}

void link_rdma_pool_forget(struct link_rdma_pool *p)
{
	for (uint32_t i = 0; i < p->nheld; i++) {
		set_key(p, p->held[i], 0);
		p->window[p->held[i]].state = ABSENT;
	}
	p->nheld = p->nleaving = p->nthere = 0;
	p->nnear = p->nseen = 0;
	// What stood in the way may be gone, with the flows that were.
	p->most = p->told;
	p->rests = 0;
	atomic_store_explicit(&p->epoch, 0, memory_order_relaxed);
	for (unsigned i = 0; i < p->nlanes; i++)
		atomic_store_explicit(&p->lane[i].done, 0, memory_order_relaxed);
}

// Chunks of a window that is not held are near.
static void is_near(struct link_rdma_pool *p, uint32_t window, uint32_t chunks)
{
	for (unsigned i = 0; i < p->nnear; i++)
		if (p->near[i].window == window) {
			p->near[i].chunks += chunks;
			return;
		}
	p->nseen++;
	if (p->nnear < LINK_RDMA_POOL_TURN)
		p->near[p->nnear++] = (struct link_rdma_pool_near){window, chunks};
}

// It is not dropped in this turn, if it is there.
void link_rdma_pool_hold(
	struct link_rdma_pool *p, unsigned region, uint64_t chunk, uint32_t nchunks)
{
	const struct link_rdma_pool_region *r = &p->region[region];
	uint64_t last = (chunk + nchunks - 1) >> p->shift;

	for (uint64_t i = chunk >> p->shift; i <= last && i < r->n; i++)
		p->window[r->first + i].used = p->turn;
}

// At most half of what may be held is looked ahead: the rest is for what is being written.
static uint32_t ahead(const struct link_rdma_pool *p)
{
	return p->most > 1 ? p->most / 2 : 1;
}

bool link_rdma_pool_near(
	struct link_rdma_pool *p, unsigned region, uint64_t chunk, uint32_t nchunks)
{
	const struct link_rdma_pool_region *r = &p->region[region];
	uint64_t end = chunk + nchunks;

	while (chunk < end) {
		uint64_t i = chunk >> p->shift, next = (i + 1) << p->shift;
		uint32_t window;

		if (i >= r->n || p->nseen >= ahead(p) || p->nnear == LINK_RDMA_POOL_TURN)
			break;
		window = r->first + (uint32_t)i;
		next = next < end ? next : end;
		if (p->window[window].state == ABSENT) {
			is_near(p, window, (uint32_t)(next - chunk));
		} else if (p->window[window].used != p->turn) {
			p->window[window].used = p->turn;
			p->nseen++;
		}
		chunk = next;
	}
	return p->nseen < ahead(p) && p->nnear < LINK_RDMA_POOL_TURN;
}

// What was sent with keys of before the epoch has come.
static bool all_past(const struct link_rdma_pool *p)
{
	uint32_t epoch = atomic_load_explicit(&p->epoch, memory_order_relaxed);

	if (plant(PLANT_RDMA_DROP_EARLY))
		return true;
	for (unsigned i = 0; i < p->nlanes; i++)
		// acquire: pairs with the release in link_rdma_pool_pass()
		if (atomic_load_explicit(&p->lane[i].done, memory_order_acquire) != epoch)
			return false;
	return true;
}

static void drop_leaving(struct link_rdma_pool *p, struct link_rdma_pool_ask *ask)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < p->nheld; i++) {
		uint32_t window = p->held[i];

		if (p->window[window].state != LEAVING) {
			p->held[kept++] = window;
			continue;
		}
		p->window[window].state = ABSENT;
		ask->drop[ask->ndrop++] = window;
	}
	p->counts.dropped += p->nleaving;
	p->nheld = kept;
	p->nleaving = 0;
}

// The one with a key that was near longest ago, and is not now.
static bool take_oldest(struct link_rdma_pool *p)
{
	uint32_t oldest = UINT32_MAX;

	for (uint32_t i = 0; i < p->nheld; i++) {
		const struct link_rdma_pool_window *w = &p->window[p->held[i]];

		if (w->state == THERE && w->used != p->turn &&
			(oldest == UINT32_MAX || w->used < p->window[oldest].used))
			oldest = p->held[i];
	}
	if (oldest == UINT32_MAX)
		return false;
	set_key(p, oldest, 0);
	p->window[oldest].state = LEAVING;
	p->nleaving++;
	p->nthere--;
	return true;
}

// Begins to drop as many as are wanted, and some more, so that the next ones find room.
static void make_room(struct link_rdma_pool *p, uint32_t windows)
{
	while (p->nleaving < LINK_RDMA_POOL_TURN && p->most - p->nheld + p->nleaving < windows &&
		take_oldest(p))
		;
	// release: pairs with the acquire in link_rdma_pool_pass()
	if (p->nleaving > 0)
		atomic_fetch_add_explicit(&p->epoch, 1, memory_order_release);
}

bool link_rdma_pool_turn(struct link_rdma_pool *p, struct link_rdma_pool_ask *ask)
{
	unsigned unmet = 0;

	ask->nwant = ask->ndrop = 0;
	if (p->nleaving > 0 && all_past(p))
		drop_leaving(p, ask);
	for (unsigned i = 0; i < p->nnear; i++) {
		const struct link_rdma_pool_near *near = &p->near[i];

		if (p->turn < p->rests || (uint64_t)near->chunks * WORTH < UINT64_C(1) << p->shift)
			continue;
		if (p->nheld >= p->most) {
			unmet++;
			continue;
		}
		p->window[near->window] = (struct link_rdma_pool_window){p->turn, ASKED};
		p->held[p->nheld++] = near->window;
		ask->want[ask->nwant++] = near->window;
	}
	if (p->nnear > 0 && p->nleaving == 0)
		make_room(p, unmet + (p->most / 4 < SPARE ? p->most / 4 : SPARE));
	p->counts.asked += ask->nwant;
	p->nnear = p->nseen = 0;
	p->turn++;
	return ask->nwant + ask->ndrop > 0;
}

static bool was_asked(const struct link_rdma_pool *p, uint64_t window)
{
	return window < p->n && p->window[window].state == ASKED;
}

int link_rdma_pool_registered(struct link_rdma_pool *p, uint64_t window, uint32_t rkey)
{
	if (!was_asked(p, window))
		return -EPROTO;
	p->window[window].state = THERE;
	if (++p->nthere > p->counts.most_held)
		p->counts.most_held = p->nthere;
	set_key(p, (uint32_t)window, LINK_RDMA_POOL_KEYED | rkey);
	return 0;
}

int link_rdma_pool_refused(struct link_rdma_pool *p, uint64_t window)
{
	uint32_t kept = 0;

	if (!was_asked(p, window))
		return -EPROTO;
	p->window[window].state = ABSENT;
	for (uint32_t i = 0; i < p->nheld; i++)
		if (p->held[i] != window)
			p->held[kept++] = p->held[i];
	// Never none: what stood in the way may pass.
	p->nheld = kept;
	p->most = kept > 0 ? kept : 1;
	p->rests = p->turn + REST;
	p->counts.refused++;
	return 0;
}
