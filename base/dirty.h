/* SPDX-License-Identifier: BSD-3-Clause */
/* The dirty set of a session: four planes with one word a chunk, one bit a page.
 *
 *   set    pages to be sent that no pass has taken. Control writes.
 *   taken  pages that this pass took: set by control before the chunk is published to a flow,
 *          cleared by the flow's lcore when the chunk is acknowledged as placed. What is left when
 *          a pass closes goes back to set (law 1).
 *   hole   pages that are to become holes at the target in this pass; written like taken.
 *   held   pages for which the target may hold content. Set by the lcore that sends content,
 *          cleared by it when a hole is acknowledged; read by control between passes (law 11).
 *
 * groups has a bit for each DIRTY_GROUP chunks: clear, no word of set, taken, hole or held in there
 * has a bit, and walks pass it by without touching the planes. Control writes; bits are never
 * cleared.
 *
 * In a pass a chunk belongs to one flow (law 5), so each word has one writer at a time and needs no
 * atomic: publishing a chunk and closing a pass are the hand-overs (window.h). Memory is lazily
 * populated: an idle terabyte costs nothing. */
#ifndef GODWIT_BASE_DIRTY_H
#define GODWIT_BASE_DIRTY_H

#include <stdbool.h>
#include <stdint.h>

#define DIRTY_GROUP 8u /* chunks: a cache line of each plane */

struct dirty {
	uint64_t nchunks;
	uint64_t *groups;
	uint64_t *set;
	uint64_t *taken;
	uint64_t *hole;
	uint64_t *held;
};

/* 0 or -ENOMEM. */
int dirty_init(struct dirty *d, uint64_t nchunks);
void dirty_fini(struct dirty *d);

/* Words of these chunks may get bits from now on. Before a bit is written to a plane directly. */
void dirty_touch(struct dirty *d, uint64_t first, uint64_t n);

/* First chunk >= from and < end in a touched group; end if there is none. */
uint64_t dirty_touched(const struct dirty *d, uint64_t from, uint64_t end);

/* The next such chunk after c, which is one: a few cycles but at a group's end. */
static inline uint64_t dirty_after(const struct dirty *d, uint64_t c, uint64_t end)
{
	c++;
	return c % DIRTY_GROUP != 0 && c < end ? c : dirty_touched(d, c, end);
}

/* set |= words, for chunks [first, first + n). Touches only words that change. */
void dirty_or(struct dirty *d, uint64_t first, const uint64_t *words, uint64_t n);

/* Pages in set; in set within a range of chunks. */
uint64_t dirty_count(const struct dirty *d);
uint64_t dirty_count_range(const struct dirty *d, uint64_t first, uint64_t n);

/* First chunk >= from and < end with a bit in set or hole; end if there is none. */
uint64_t dirty_next(const struct dirty *d, uint64_t from, uint64_t end);

/* Moves pages of one chunk from set to taken. also: pages that arming reported beside set.
 * Returns what is now taken. */
uint64_t dirty_take(struct dirty *d, uint64_t chunk, uint64_t also);

/* Closes a pass: all that is still taken returns to set, all holes not acknowledged are dropped
 * (the next look finds them again, as held still has them). Only chunks [first, first + n) are
 * walked. Returns pages put back and holes dropped: what the target may not have yet. */
uint64_t dirty_put_back(struct dirty *d, uint64_t first, uint64_t n);

#endif
