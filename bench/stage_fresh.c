// SPDX-License-Identifier: BSD-3-Clause
// Stages of the first content of pages that are holes: what dataplane/fresh.c chooses from. Each
// round begins with a file that is one hole, which is made before the clock runs. Names that end in
// -2 have a second core at work on the other half of the same file; fresh/ahead* have one that goes
// ahead of the first, through the same pages.

#include "stage.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "copy.h"
#include "cpu.h"
#include "fresh.h"
#include "pingpong.h"

#define FRESH_CHUNKS 1024u // 256 MiB, or the image where that is less

enum {
	FRESH_FAULT,
	FRESH_POPULATE,
	FRESH_PWRITE,
	FRESH_HOW = 3,   // mask of the above
	FRESH_HALF = 4,  // a second core does the upper half
	FRESH_AHEAD = 8, // a second core makes the pages, the first writes them
};

struct fresh {
	struct bench *b;
	struct region_map map;
	int arg, cpu;         // of the second core
	uint64_t nchunks;     // done by both
	_Atomic uint64_t way; // of the core ahead: chunks it has made
	_Atomic bool go;
	int failed;
};

static void write_chunks(struct fresh *f, uint64_t first, uint64_t end)
{
	const struct region *r = &f->map.r[0];
	int how = f->arg & FRESH_HOW;

	for (uint64_t c = first; c < end; c++) {
		const uint8_t *from = f->b->image + c * CHUNK_BYTES;

		while (f->arg & FRESH_AHEAD &&
			atomic_load_explicit(&f->way, memory_order_acquire) <= c)
			;
		if (how == FRESH_FAULT ||
			!fresh_write(r, c * CHUNK_BYTES, from, CHUNK_BYTES, how == FRESH_PWRITE))
			copy_out(r->base + c * CHUNK_BYTES, from, CHUNK_BYTES);
	}
	copy_out_done();
}

// Populates for copies through the mapping, allocates for pwrite.
static int make_chunk(const struct fresh *f, uint64_t c)
{
	const struct region *r = &f->map.r[0];

	if ((f->arg & FRESH_HOW) == FRESH_PWRITE)
		return fallocate(r->fd, 0, (off_t)(c * CHUNK_BYTES), CHUNK_BYTES);
	return madvise(r->base + c * CHUNK_BYTES, CHUNK_BYTES, MADV_POPULATE_WRITE);
}

static void *second(void *arg)
{
	struct fresh *f = arg;

	f->failed = pin(f->cpu);
	while (!atomic_load_explicit(&f->go, memory_order_acquire))
		;
	if (f->arg & FRESH_HALF)
		write_chunks(f, f->nchunks / 2, f->nchunks);
	for (uint64_t c = 0; f->arg & FRESH_AHEAD && c < f->nchunks; c++) {
		if (make_chunk(f, c) != 0)
			f->failed = -errno;
		// release: pairs with the acquire in write_chunks()
		atomic_store_explicit(&f->way, c + 1, memory_order_release);
	}
	return NULL;
}

// Another CPU than this one, that this process may use, or -1.
static int second_cpu(void)
{
	cpu_set_t before;
	int here = sched_getcpu(), found = -1;

	if (sched_getaffinity(0, sizeof(before), &before) != 0)
		return -1;
	for (long cpu = sysconf(_SC_NPROCESSORS_ONLN) - 1; cpu >= 0 && found < 0; cpu--)
		if (cpu != here && pin((int)cpu) == 0)
			found = (int)cpu;
	sched_setaffinity(0, sizeof(before), &before);
	return found;
}

static void fresh_close(void *state)
{
	struct fresh *f = state;

	region_map_close(&f->map);
	free(f);
}

static int fresh_open(struct bench *b, int arg, void **state)
{
	struct fresh *f = calloc(1, sizeof(*f));
	uint64_t chunks = b->map.nchunks < FRESH_CHUNKS ? b->map.nchunks : FRESH_CHUNKS;
	int fd = memfd_create("godwit-fresh", MFD_CLOEXEC), rc = 0;
	struct err e;

	if (f == NULL || fd < 0 || ftruncate(fd, (off_t)(chunks * CHUNK_BYTES)) != 0)
		rc = f == NULL ? -ENOMEM : -errno;
	if (rc == 0)
		rc = region_add(&f->map, "fresh", fd, chunks * CHUNK_BYTES, 4096, &e);
	if (rc < 0) {
		close_fd(&fd);
		free(f);
		return rc;
	}
	f->b = b;
	f->arg = arg;
	f->nchunks = chunks;
	f->cpu = arg & (FRESH_HALF | FRESH_AHEAD) ? second_cpu() : 0;
	rc = f->cpu < 0 ? -ENOTSUP : region_mmap(&f->map.r[0], true, &e);
	if (rc < 0)
		fresh_close(f);
	else
		*state = f;
	return rc;
}

static uint64_t fresh_run(struct bench *b, int arg, void *state)
{
	const struct region *r = &((struct fresh *)state)->map.r[0];
	bool two = (arg & (FRESH_HALF | FRESH_AHEAD)) != 0;
	uint64_t began = cpu_cycles();
	struct fresh *f = state;
	pthread_t thread;

	// One hole again, and nothing mapped of it: as when a guest is awaited.
	if (fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)r->bytes) != 0)
		abort();
	atomic_store(&f->way, 0);
	atomic_store(&f->go, false);
	if (two && pthread_create(&thread, NULL, second, f) != 0)
		abort();
	b->aside += cpu_cycles() - began;
	atomic_store_explicit(&f->go, true, memory_order_release);
	write_chunks(f, 0, arg & FRESH_HALF ? f->nchunks / 2 : f->nchunks);
	if (two)
		pthread_join(thread, NULL);
	if (f->failed != 0)
		abort();
	return f->nchunks * CHUNK_PAGES;
}

const struct stage stage_fresh[] = {
	{"fresh/fault", "content of holes, by page faults", FRESH_FAULT, fresh_open, fresh_run,
		fresh_close},
	{"fresh/populate", "the same, populated first", FRESH_POPULATE, fresh_open, fresh_run,
		fresh_close},
	{"fresh/pwrite", "the same, written to the file", FRESH_PWRITE, fresh_open, fresh_run,
		fresh_close},
	{"fresh/fault-2", "fault, two cores on one file", FRESH_FAULT | FRESH_HALF, fresh_open,
		fresh_run, fresh_close},
	{"fresh/populate-2", "populate, two cores on one file", FRESH_POPULATE | FRESH_HALF,
		fresh_open, fresh_run, fresh_close},
	{"fresh/pwrite-2", "pwrite, two cores on one file", FRESH_PWRITE | FRESH_HALF, fresh_open,
		fresh_run, fresh_close},
	{"fresh/ahead", "a second core populates ahead", FRESH_FAULT | FRESH_AHEAD, fresh_open,
		fresh_run, fresh_close},
	{"fresh/ahead-pwrite", "a second core allocates ahead of pwrite",
		FRESH_PWRITE | FRESH_AHEAD, fresh_open, fresh_run, fresh_close},
	{NULL, NULL, 0, NULL, NULL, NULL},
};
