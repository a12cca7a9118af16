// SPDX-License-Identifier: BSD-3-Clause
// The balloon's bitmap. Run by any thread of the VMM; balloon_take_over by the agent's.
// Invariant (law 4): a page that leaves is told dirty first and loses its bit second, both before
// the VMM lets the guest have it. Who looks in between sees a page that is dirty and left out: it
// stays dirty with its source until it was armed.

#include "balloon.h"

#include "bits.h"
#include "pfn.h"
#include "plant.h"

#include <errno.h>
#include <stddef.h>

void balloon_init(struct balloon *b, const struct region_map *map, uint64_t *words)
{
	b->map = map;
	b->words = words;
	atomic_init(&b->must_tell, false);
}

static void each_word(struct balloon *b, uint64_t page, uint64_t n, bool in)
{
	uint64_t end = page + n;

	while (page < end) {
		unsigned at = page % 64;
		unsigned len = end - page < 64 - at ? (unsigned)(end - page) : 64 - at;
		uint64_t bits = bits_low(len) << at;

		if (in)
			__atomic_fetch_or(&b->words[page / 64], bits, __ATOMIC_SEQ_CST);
		else
			__atomic_fetch_and(&b->words[page / 64], ~bits, __ATOMIC_SEQ_CST);
		page += len;
	}
}

struct leaving {
	struct balloon *b;
	balloon_fn leaves;
	void *arg;
};

static void leave(void *arg, uint64_t page, uint64_t n)
{
	struct leaving *l = arg;

	l->leaves(l->arg, page, n);
	each_word(l->b, page, n, false);
}

static int leave_run(void *arg, uint64_t start, uint64_t len)
{
	leave(arg, start, len);
	return 0;
}

void balloon_set(struct balloon *b, bool must_tell, balloon_fn leaves, void *arg)
{
	struct leaving l = {b, leaves, arg};

	atomic_store(&b->must_tell, must_tell);
	if (!must_tell && atomic_load(&b->used))
		bits_runs(b->words, 0, b->map->nchunks * 64, leave_run, &l);
}

static void enter(void *arg, uint64_t page, uint64_t n)
{
	each_word(arg, page, n, true);
}

int balloon_inflate(struct balloon *b, uint64_t pfn, uint64_t n)
{
	if (!atomic_load(&b->must_tell) && !plant(PLANT_LAW4_NEED_NOT_TELL))
		return 0;
	atomic_store(&b->used, true);
	return pfn_pages(b->map, pfn, n, enter, b);
}

int balloon_deflate(struct balloon *b, uint64_t pfn, uint64_t n, balloon_fn leaves, void *arg)
{
	struct leaving l = {b, leaves, arg};

	return pfn_pages(b->map, pfn, n, leave, &l);
}

void balloon_take_over(struct balloon *b, uint64_t chunk, uint64_t bits)
{
	if (bits == 0)
		return;
	atomic_store(&b->used, true);
	__atomic_fetch_or(&b->words[chunk], bits, __ATOMIC_SEQ_CST);
}
