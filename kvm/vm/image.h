/* SPDX-License-Identifier: BSD-3-Clause */
/* Seeded memory content: what a guest's memory looks like, the same on every host.
 *
 * Pages come in runs of 16 to 512 of one class. A mix has exact shares in each block of
 * IMAGE_BLOCK pages (20 MiB): half zero, 35 % binary, 10 % text, 5 % random. Every page depends on
 * seed and page number alone, so any page can be made again to compare with. */
#ifndef GODWIT_VM_IMAGE_H
#define GODWIT_VM_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#define IMAGE_BLOCK   5120u /* pages that one plan covers */
#define IMAGE_RUN_MIN 16u
#define IMAGE_RUN_MAX 512u

enum image_class {
	IMAGE_ZERO,
	IMAGE_TEXT,   /* words and lines */
	IMAGE_BINARY, /* statistics of x86-64 code and its tables */
	IMAGE_RANDOM,
	IMAGE_HEAP, /* small objects as an allocator lays them: headers, pointers, counts, names,
		       slack */
	IMAGE_MIX,  /* of content only: a run has one of zero, text, binary, random */
};

struct image {
	enum image_class content;
	uint64_t seed;
	unsigned populate; /* percent of pages that are there; the rest are holes, by runs */
};

struct image_run {
	uint64_t first; /* page */
	uint32_t pages;
	enum image_class class;
	bool hole;
};

/* "zero", "text", "binary", "random", "heap", "mix". image_parse: 0 or -EINVAL. */
const char *image_name(enum image_class c);
int image_parse(const char *name, enum image_class *c);

/* The runs of block number b, in order. Returns how many. */
#define IMAGE_RUNS (IMAGE_BLOCK / IMAGE_RUN_MIN + 4)
unsigned image_plan(const struct image *im, uint64_t b, struct image_run runs[IMAGE_RUNS]);

/* Writes one page of 4096 bytes. c is not IMAGE_MIX. */
void image_page(enum image_class c, uint64_t seed, uint64_t page, void *dst);

/* Writes pages [first, first + n) to dst, but not those in holes: they stay untouched. */
void image_fill(const struct image *im, uint64_t first, uint64_t n, uint8_t *dst);

#endif
