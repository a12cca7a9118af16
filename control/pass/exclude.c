// SPDX-License-Identifier: BSD-3-Clause
// Balloon and free pages at the source. Run by the control loop.
// Invariants: what is left out as free was armed before the guest was asked, and was not written
// before a look that came after its answer (pass.c asks in that order); shared words are read once,
// as the VMM changes them at any time.

#include "exclude.h"

#include "bits.h"
#include "dirty.h"
#include "map.h"
#include "plant.h"

#include <errno.h>

int exclude_init(struct exclude *x, struct region_map *map, uint64_t *shared, int shared_fd)
{
	*x = (struct exclude){.map = map, .shared = shared, .shared_fd = shared_fd};
	x->whole_from = x->balloon_first = UINT64_MAX;
	x->balloon = map_lazy(map->nchunks * sizeof(uint64_t));
	x->free = map_lazy(map->nchunks * sizeof(uint64_t));
	x->all = map_lazy(map->nchunks * sizeof(uint64_t));
	if (x->balloon == NULL || x->free == NULL || x->all == NULL) {
		exclude_fini(x);
		return -ENOMEM;
	}
	return 0;
}

void exclude_fini(struct exclude *x)
{
	if (x->map == NULL)
		return;
	map_free(x->balloon, x->map->nchunks * sizeof(uint64_t));
	map_free(x->free, x->map->nchunks * sizeof(uint64_t));
	map_free(x->all, x->map->nchunks * sizeof(uint64_t));
	*x = (struct exclude){0};
}

static void look_run(void *arg, uint64_t first, uint64_t end)
{
	struct exclude *x = arg;

	for (uint64_t c = first; c < end; c++) {
		uint64_t w = __atomic_load_n(&x->shared[c], __ATOMIC_ACQUIRE);

		if (w != x->balloon[c])
			x->balloon[c] = w;
		if (w != 0 && c < x->balloon_first)
			x->balloon_first = c;
		if (w != 0 && c >= x->balloon_end)
			x->balloon_end = c + 1;
		x->any_balloon |= w != 0;
	}
}

void exclude_look(struct exclude *x)
{
	if (x->shared == NULL)
		return;
	x->any_balloon = false;
	x->whole_from = UINT64_MAX;
	map_runs(x->shared_fd, 0, x->map->nchunks, look_run, x);
}

/* Is all of the backing page in the balloon that holds this chunk? */
static bool whole_page(struct exclude *x, const struct region *r, uint64_t chunk)
{
	uint64_t n = r->page_bytes / CHUNK_BYTES, in = chunk - r->first_chunk;
	uint64_t from = r->first_chunk + in - in % n;

	if (x->whole_from == from)
		return x->whole;
	x->whole_from = from;
	x->whole = true;
	for (uint64_t c = from; x->whole && c < from + n && c < r->first_chunk + r->nchunks; c++) {
		uint64_t all = region_chunk_mask(r, c - r->first_chunk);

		x->whole = (x->balloon[c] & all) == all;
	}
	return x->whole;
}

uint64_t exclude_balloon(struct exclude *x, const struct region *r, uint64_t chunk)
{
	if (!x->use_balloon && !plant(PLANT_LAW4_NEED_NOT_TELL))
		return 0;
	if (!x->any_balloon || x->balloon[chunk] == 0)
		return 0;
	if (r->page_bytes > PAGE_BYTES && !whole_page(x, r, chunk))
		return 0;
	return x->balloon[chunk] & region_chunk_mask(r, chunk - r->first_chunk);
}

struct taking {
	struct exclude *x;
	uint64_t first;
	exclude_fn fn;
	void *arg;
};

static void take_run(void *arg, uint64_t first, uint64_t end)
{
	struct taking *t = arg;
	uint64_t n = t->x->map->nchunks;

	for (uint64_t i = first; i < end; i++) {
		uint64_t w = t->x->shared[i];

		if (w == 0)
			continue;
		t->x->shared[i] = 0;
		if (i - n >= t->first)
			t->fn(t->arg, i - n, w);
	}
}

void exclude_take_free(struct exclude *x, uint64_t first, exclude_fn fn, void *arg)
{
	struct taking t = {x, first, fn, arg};

	map_runs(x->shared_fd, x->map->nchunks, 2 * x->map->nchunks, take_run, &t);
}

void exclude_leave(struct exclude *x, uint64_t chunk, uint64_t bits)
{
	if (bits == 0)
		return;
	x->free_pages += bits_count(bits & ~x->free[chunk]);
	x->free[chunk] |= bits;
}

void exclude_send(struct exclude *x, uint64_t chunk, uint64_t bits)
{
	if (x->free_pages == 0 || (x->free[chunk] & bits) == 0)
		return;
	x->free_pages -= bits_count(x->free[chunk] & bits);
	x->free[chunk] &= ~bits;
}

const uint64_t *exclude_all(struct exclude *x, const struct dirty *d)
{
	for (uint64_t c = dirty_touched(d, 0, d->nchunks); c < d->nchunks;
		c = dirty_after(d, c, d->nchunks)) {
		uint64_t out = x->free[c] | exclude_balloon(x, region_of_chunk(x->map, c), c);

		if (x->all[c] != out)
			x->all[c] = out;
	}
	return x->all;
}
