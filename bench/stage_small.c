// SPDX-License-Identifier: BSD-3-Clause
// Stages that touch words, not pages. A "page" here is one that the words stand for, so the cycles
// a page can be added up with those of the other stages.

#include "stage.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "bits.h"
#include "claim.h"
#include "cpu.h"
#include "dirty.h"
#include "frame.h"
#include "map.h"
#include "place.h"

// Headers: written, read and checked.

#define FRAMES 65536u

static uint64_t frame_run(struct bench *b, int arg, void *state)
{
	uint8_t buf[FRAME_HDR_BYTES];
	struct frame f = {.type = FRAME_CHUNK, .chunks = 1, .data = UINT64_MAX};
	struct frame back;
	uint64_t sum = 0;

	(void)arg;
	(void)state;
	f.payload_bytes = FRAME_PAYLOAD_BYTES;
	for (uint32_t i = 0; i < FRAMES; i++) {
		f.seq = i;
		f.chunk = i % (uint32_t)b->map.nchunks;
		frame_encode(&f, buf);
		if (frame_decode(&back, buf) != 0 || frame_check(&back, &b->map) != 0)
			abort();
		sum += frame_sum(&back);
	}
	bench_use(sum);
	return (uint64_t)FRAMES * CHUNK_PAGES;
}

// The dirty set: looked through, taken and put back; arg in a thousand of its chunks are dirty.

#define DIRTY_CHUNKS (UINT64_C(1) << 22) // of 1 TiB

static int dirty_open(struct bench *b, int arg, void **state)
{
	struct dirty *d = calloc(1, sizeof(*d));

	(void)b;
	if (d == NULL || dirty_init(d, DIRTY_CHUNKS) != 0) {
		free(d);
		return -ENOMEM;
	}
	dirty_touch(d, 0, DIRTY_CHUNKS);
	for (uint64_t c = 0; arg > 0 && c < DIRTY_CHUNKS; c += 1000 / (uint64_t)arg)
		d->set[c] = 0xff;
	*state = d;
	return 0;
}

static uint64_t dirty_run(struct bench *b, int arg, void *state)
{
	struct dirty *d = state;
	uint64_t pages = 0;

	(void)b;
	(void)arg;
	for (uint64_t c = 0; (c = dirty_next(d, c, DIRTY_CHUNKS)) < DIRTY_CHUNKS; c++)
		pages += bits_count(dirty_take(d, c, 0));
	pages += dirty_put_back(d, 0, DIRTY_CHUNKS);
	bench_use(pages);
	return DIRTY_CHUNKS * CHUNK_PAGES;
}

static void dirty_close(void *state)
{
	dirty_fini(state);
	free(state);
}

// Claiming: spans published as control does and taken as a core does, both here.

static int claim_open(struct bench *b, int arg, void **state)
{
	struct claim *c = aligned_alloc(CACHE_LINE, sizeof(*c));

	(void)b;
	(void)arg;
	if (c == NULL || claim_init(c, 1) != 0) {
		free(c);
		return -ENOMEM;
	}
	*state = c;
	return 0;
}

static uint64_t claim_run(struct bench *b, int arg, void *state)
{
	struct claim *c = state;
	struct span spans[64], got;
	uint64_t pages = 0;

	(void)b;
	(void)arg;
	for (unsigned i = 0; i < 64; i++)
		spans[i] = (struct span){.chunk = i * SPAN_CHUNKS, .nchunks = SPAN_CHUNKS};
	for (unsigned round = 0; round < 4096; round++) {
		claim_publish(c, 0, spans, 64);
		while (claim_take(c, 0, &got))
			pages += (uint64_t)got.nchunks * CHUNK_PAGES;
	}
	return pages;
}

static void claim_close(void *state)
{
	claim_fini(state);
	free(state);
}

// Placing: whole chunks of content from a buffer in the cache (CONTENT); ZERO frames over memory
// that is fresh, and over memory that has held content (OLD). KEPT, and KEPT_ZERO: content and ZERO
// frames over what the target's files held before the session and were let keep, by the only flow.
enum place_what { PLACE_CONTENT, PLACE_FRESH, PLACE_OLD, PLACE_KEPT, PLACE_KEPT_ZERO };

static void place_close(void *state)
{
	struct recv_job *job = state;

	map_free(job->written, job->map->nchunks * sizeof(uint64_t));
	map_free(job->stale, job->map->nchunks * sizeof(uint64_t));
	free(job);
}

static int place_open(struct bench *b, int arg, void **state)
{
	struct recv_job *job;
	int rc = bench_target(b);

	if (rc != 0)
		return rc;
	job = calloc(1, sizeof(*job));
	if (job == NULL)
		return -ENOMEM;
	job->map = &b->target_map;
	job->written = map_lazy(job->map->nchunks * sizeof(uint64_t));
	job->stale = map_lazy(job->map->nchunks * sizeof(uint64_t));
	if (job->written == NULL || job->stale == NULL) {
		place_close(job);
		return -ENOMEM;
	}
	for (uint64_t c = 0; arg >= PLACE_OLD && c < job->map->nchunks; c++)
		job->written[c] = region_chunk_mask(&job->map->r[0], c);
	job->kept[0] = job->alone = arg >= PLACE_KEPT;
	*state = job;
	return 0;
}

static uint64_t place_run(struct bench *b, int arg, void *state)
{
	struct recv_job *job = state;
	bool content = arg == PLACE_CONTENT || arg == PLACE_KEPT;
	struct frame f = {.type = content ? FRAME_CHUNK : FRAME_ZERO};
	uint64_t chunks = content ? 1 : 256;
	uint64_t n = job->map->nchunks, began = cpu_cycles();

	for (uint64_t c = 0; arg >= PLACE_KEPT && c < n; c++)
		job->stale[c] = region_chunk_mask(&job->map->r[0], c);
	// As in a session: the file has its pages, and this process maps none of them.
	if (arg >= PLACE_KEPT)
		madvise(b->target, b->pages * PAGE_BYTES, MADV_DONTNEED);
	b->aside += cpu_cycles() - began;
	for (uint64_t c = 0; c < n; c += f.chunks) {
		uint32_t at = 0;

		f.chunk = (uint32_t)c;
		f.chunks = (uint32_t)(n - c < chunks ? n - c : chunks);
		f.data = content ? region_chunk_mask(&job->map->r[0], c) : 0;
		while (!place_frame(job, &f, b->image, &at))
			;
	}
	began = cpu_cycles();
	if (arg >= PLACE_KEPT)
		madvise(b->target, b->pages * PAGE_BYTES, MADV_POPULATE_WRITE);
	b->aside += cpu_cycles() - began;
	return b->pages;
}

const struct stage stage_small[] = {
	{"frame", "header of a chunk: encode, decode, check", 0, NULL, frame_run, NULL},
	{"dirty/idle", "dirty set of a terabyte, nothing set", 0, dirty_open, dirty_run,
		dirty_close},
	{"dirty/1", "dirty set of a terabyte, 1 % of its chunks", 10, dirty_open, dirty_run,
		dirty_close},
	{"claim", "spans published and taken", 0, claim_open, claim_run, claim_close},
	{"place", "content placed from the cache", PLACE_CONTENT, place_open, place_run,
		place_close},
	{"place/fresh", "ZERO frames over fresh memory", PLACE_FRESH, place_open, place_run,
		place_close},
	{"place/old", "ZERO frames over old content", PLACE_OLD, place_open, place_run,
		place_close},
	{"place/kept", "content over what files held before", PLACE_KEPT, place_open, place_run,
		place_close},
	{"place/kept-zero", "ZERO frames over what files held before", PLACE_KEPT_ZERO, place_open,
		place_run, place_close},
	{NULL, NULL, 0, NULL, NULL, NULL},
};
