/* SPDX-License-Identifier: BSD-3-Clause */
/* A stage: one part of the way of a page, timed alone on one core. */
#ifndef GODWIT_BENCH_STAGE_H
#define GODWIT_BENCH_STAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "image.h"
#include "region.h"

/* What stages work on: an image of guest memory, populated and mapped, and as much memory to write
 * to, which is made when the first stage asks for it. Both are far larger than the cache. */
struct bench {
	struct image content;
	const char *from; /* a file to take the image from; NULL: made by content */
	int pid;          /* a process to take it from; 0: none */
	uint64_t pages;
	struct region_map map; /* one region, the image */
	uint8_t *image;
	struct region_map target_map;
	uint8_t *target;      /* NULL before bench_target() */
	bool huge;            /* backed by 2 MiB pages */
	double encoded_bytes; /* that a codec left of this round's pages; 0: it is none */
	uint64_t aside;       /* cycles of this round in which a stage made ready: not its own */
};

struct stage {
	const char *name;
	const char *what;
	int arg;
	/* Before the first round; 0, or -errno where this machine can't. NULL: nothing to do. What
	 * it leaves in *state goes to the others. */
	int (*open)(struct bench *b, int arg, void **state);
	/* One round. Returns pages done. */
	uint64_t (*run)(struct bench *b, int arg, void *state);
	void (*close)(void *state); /* after the last round; NULL: nothing to do */
};

/* Tables of the files stage_*.c, each ended by a NULL name. */
extern const struct stage stage_memory[];
extern const struct stage stage_codec[];
extern const struct stage stage_path[];
extern const struct stage stage_small[];
extern const struct stage stage_fresh[];
extern const struct stage stage_arm[];
extern const struct stage stage_seal[];
extern const struct stage stage_rounds[];

/* Makes b->target, populated. 0 or -errno. */
int bench_target(struct bench *b);

/* Keeps a result that nobody uses from being optimised away. */
static inline void bench_use(uint64_t v)
{
	__asm__ volatile("" : : "r"(v) : "memory");
}

#endif
