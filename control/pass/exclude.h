/* SPDX-License-Identifier: BSD-3-Clause */
/* Pages that need not go, at the source: in the balloon (law 4), or reported free (law 3). With the
 * holes they are taken out of the dirty set before the cores get to see it. Control loop only. */
#ifndef GODWIT_CONTROL_EXCLUDE_H
#define GODWIT_CONTROL_EXCLUDE_H

#include <stdbool.h>
#include <stdint.h>

#include "region.h"

struct exclude {
	struct region_map *map;
	uint64_t *shared; /* planes BALLOON and FREE, see agent_proto.h; NULL: no hints */
	int shared_fd;    /* memfd of them; its holes are words of zero. -1: walk all */
	bool use_balloon; /* pages in it are left out */
	bool ask_free;    /* the guest can be asked which pages are free */

	uint64_t *balloon; /* as of the last look; a word a chunk */
	uint64_t *free;    /* left out of pass 0 as free, and not written since */
	uint64_t *all;     /* for exclude_all() */
	bool any_balloon;
	uint64_t balloon_first, balloon_end; /* words of it that ever were not 0 lie in between */
	uint64_t free_pages;                 /* bits in free */
	uint64_t whole_from; /* the large page that was looked at last, and whether it is whole */
	bool whole;
};

/* 0 or -ENOMEM. shared may be NULL. */
int exclude_init(struct exclude *x, struct region_map *map, uint64_t *shared, int shared_fd);
void exclude_fini(struct exclude *x);

/* After a look: takes the balloon as it is now. */
void exclude_look(struct exclude *x);

/* Pages of the chunk (of region r) that are in the balloon and need not go: none where only a part
 * of a large backing page is in it. */
uint64_t exclude_balloon(struct exclude *x, const struct region *r, uint64_t chunk);

/* What the guest reported free of chunks [first, nchunks) since the last time, chunk by chunk; the
 * plane is zeroed, all of it. */
typedef void (*exclude_fn)(void *arg, uint64_t chunk, uint64_t bits);
void exclude_take_free(struct exclude *x, uint64_t first, exclude_fn fn, void *arg);

/* Pages left out as free from now on; pages that are to be sent after all. */
void exclude_leave(struct exclude *x, uint64_t chunk, uint64_t bits);
void exclude_send(struct exclude *x, uint64_t chunk, uint64_t bits);

/* All that is left out at the end, for the digest, where it counts as holes: a word a chunk. Only
 * chunks that ever held anything are looked at. It stays as it is until it is asked for again. */
struct dirty;
const uint64_t *exclude_all(struct exclude *x, const struct dirty *touched);

#endif
