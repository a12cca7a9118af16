// SPDX-License-Identifier: BSD-3-Clause
// What it takes to arm pages, and to look whether any was written: the dirty source pagemap-scan on
// memory of this process, 4 KiB pages. Before the clock runs every page is written, for arm, or
// armed, for the looks.

#include "stage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu.h"
#include "map.h"
#include "source.h"

#define ARM_CHUNKS 1024u // 256 MiB, or as much as the image where that is less

enum { ARM_WRITTEN, LOOK_WRITTEN, LOOK_IDLE };

struct arming {
	struct region_map map;
	struct source *source;
	uint64_t *want, *out;
};

static void arm_close(void *state)
{
	struct arming *a = state;

	if (a->source != NULL)
		a->source->ops->stop(a->source, NULL);
	source_pagemap_scan.close(a->source);
	free(a->want);
	free(a->out);
	region_map_close(&a->map);
	free(a);
}

static int make_memory(struct arming *a, uint64_t chunks, struct err *e)
{
	int fd = memfd_create("godwit-arm", MFD_CLOEXEC);
	uint64_t bytes = chunks * CHUNK_BYTES;
	int rc = fd < 0 || ftruncate(fd, (off_t)bytes) != 0
			 ? -errno
			 : region_add(&a->map, "arm", fd, bytes, PAGE_BYTES, e);

	if (rc < 0) {
		close_fd(&fd);
		return rc;
	}
	rc = region_mmap(&a->map.r[0], true, e);
	if (rc == 0 && madvise(a->map.r[0].base, bytes, MADV_POPULATE_WRITE) != 0)
		rc = -errno;
	return rc;
}

static int arm_open(struct bench *b, int arg, void **state)
{
	uint64_t chunks = b->map.nchunks < ARM_CHUNKS ? b->map.nchunks : ARM_CHUNKS;
	struct source_config c = {.vm_fd = -1};
	struct arming *a = calloc(1, sizeof(*a));
	struct err e = {0};
	int rc;

	(void)arg;
	if (a == NULL)
		return -ENOMEM;
	a->want = malloc(chunks * sizeof(*a->want));
	a->out = calloc(chunks, sizeof(*a->out));
	rc = a->want == NULL || a->out == NULL ? -ENOMEM : make_memory(a, chunks, &e);
	c.map = &a->map;
	if (rc == 0)
		rc = source_pagemap_scan.open(&a->source, &c, &e);
	if (rc == 0)
		rc = a->source->ops->start(a->source, &e);
	if (rc < 0) {
		arm_close(a);
		return rc;
	}
	memset(a->want, 0xff, chunks * sizeof(*a->want));
	*state = a;
	return 0;
}

static void arm_all(struct arming *a)
{
	const struct source_ops *ops = a->source->ops;

	if (ops->arm(a->source, 0, a->map.nchunks, a->want, a->out, NULL) < 0)
		abort();
}

static uint64_t arm_run(struct bench *b, int arg, void *state)
{
	uint64_t began = cpu_cycles(), pages;
	struct arming *a = state;
	int64_t found;

	pages = a->map.nchunks * CHUNK_PAGES;
	if (arg == LOOK_IDLE)
		arm_all(a);
	for (uint64_t i = 0; arg != LOOK_IDLE && i < pages; i++)
		a->map.r[0].base[i * PAGE_BYTES] ^= 1;
	memset(a->out, 0, a->map.nchunks * sizeof(*a->out));
	b->aside += cpu_cycles() - began;
	if (arg == ARM_WRITTEN) {
		arm_all(a);
		return pages;
	}
	found = a->source->ops->look(a->source, a->out, false, NULL);
	// What was written is found, and nothing else.
	if (found != (arg == LOOK_WRITTEN ? (int64_t)pages : 0))
		abort();
	return pages;
}

const struct stage stage_arm[] = {
	{"arm", "written pages armed by PAGEMAP_SCAN", ARM_WRITTEN, arm_open, arm_run, arm_close},
	{"look/written", "written pages found by PAGEMAP_SCAN", LOOK_WRITTEN, arm_open, arm_run,
		arm_close},
	{"look/idle", "armed pages that nobody wrote, looked at", LOOK_IDLE, arm_open, arm_run,
		arm_close},
	{NULL, NULL, 0, NULL, NULL, NULL},
};
