// SPDX-License-Identifier: BSD-3-Clause
// The dirty set. Run by control between hand-overs; lcores touch single words of taken, hole and
// held of the chunks they own.

#include "dirty.h"

#include "bits.h"
#include "map.h"
#include "plant.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t group_words(const struct dirty *d)
{
	return (d->nchunks / DIRTY_GROUP + WORD_BITS) / WORD_BITS;
}

int dirty_init(struct dirty *d, uint64_t nchunks)
{
	size_t bytes = nchunks * sizeof(uint64_t);

	memset(d, 0, sizeof(*d));
	d->nchunks = nchunks;
	d->groups = calloc(group_words(d), sizeof(uint64_t));
	d->set = map_lazy(bytes);
	d->taken = map_lazy(bytes);
	d->hole = map_lazy(bytes);
	d->held = map_lazy(bytes);
	if (d->groups == NULL || d->set == NULL || d->taken == NULL || d->hole == NULL ||
		d->held == NULL) {
		dirty_fini(d);
		return -ENOMEM;
	}
	return 0;
}

void dirty_fini(struct dirty *d)
{
	size_t bytes = d->nchunks * sizeof(uint64_t);

	free(d->groups);
	map_free(d->set, bytes);
	map_free(d->taken, bytes);
	map_free(d->hole, bytes);
	map_free(d->held, bytes);
	memset(d, 0, sizeof(*d));
}

void dirty_touch(struct dirty *d, uint64_t first, uint64_t n)
{
	if (n > 0)
		bits_set_range(d->groups, first / DIRTY_GROUP,
			(first + n - 1) / DIRTY_GROUP - first / DIRTY_GROUP + 1);
}

uint64_t dirty_touched(const struct dirty *d, uint64_t from, uint64_t end)
{
	while (from < end) {
		uint64_t group = from / DIRTY_GROUP;
		uint64_t word = d->groups[group / WORD_BITS] >> (group % WORD_BITS);

		if (word & 1)
			return from;
		group = word == 0 ? (group / WORD_BITS + 1) * WORD_BITS
				  : group + (unsigned)__builtin_ctzll(word);
		from = group * DIRTY_GROUP;
	}
	return end;
}

void dirty_or(struct dirty *d, uint64_t first, const uint64_t *words, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		if (words[i] == 0)
			continue;
		dirty_touch(d, first + i, 1);
		if (words[i] & ~d->set[first + i])
			d->set[first + i] |= words[i];
	}
}

uint64_t dirty_count_range(const struct dirty *d, uint64_t first, uint64_t n)
{
	uint64_t end = first + n, pages = 0;

	for (uint64_t c = dirty_touched(d, first, end); c < end; c = dirty_after(d, c, end))
		if (d->set[c] != 0)
			pages += bits_count(d->set[c]);
	return pages;
}

uint64_t dirty_count(const struct dirty *d)
{
	return dirty_count_range(d, 0, d->nchunks);
}

uint64_t dirty_next(const struct dirty *d, uint64_t from, uint64_t end)
{
	from = dirty_touched(d, from, end);
	while (from < end && (d->set[from] | d->hole[from]) == 0)
		from = dirty_after(d, from, end);
	return from;
}

uint64_t dirty_take(struct dirty *d, uint64_t chunk, uint64_t also)
{
	uint64_t pages = d->set[chunk] | also;

	dirty_touch(d, chunk, 1);
	d->taken[chunk] |= pages;
	if (d->set[chunk] != 0)
		d->set[chunk] = 0;
	return d->taken[chunk];
}

uint64_t dirty_put_back(struct dirty *d, uint64_t first, uint64_t n)
{
	uint64_t end = first + n, pages = 0;

	for (uint64_t c = dirty_touched(d, first, end); c < end; c = dirty_after(d, c, end)) {
		if (d->taken[c] != 0) {
			if (!plant(PLANT_LAW1_FORGET_TAKEN))
				d->set[c] |= d->taken[c];
			pages += bits_count(d->taken[c]);
			d->taken[c] = 0;
		}
		if (d->hole[c] != 0) {
			pages += bits_count(d->hole[c]);
			d->hole[c] = 0;
		}
	}
	return pages;
}
