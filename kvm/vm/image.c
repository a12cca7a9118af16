// SPDX-License-Identifier: BSD-3-Clause
// Seeded memory content. Run by any thread; pure: no state, no clock, no locale.
// Invariant: the same seed and page give the same bytes on every host and in every build, as
// checkers and benchmarks make pages again to compare with.

#include "image.h"

#include <errno.h>
#include <string.h>

#define PAGE 4096u

static const char *const names[] = {"zero", "text", "binary", "random", "heap", "mix"};

const char *image_name(enum image_class c)
{
	return names[c];
}

int image_parse(const char *name, enum image_class *c)
{
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0) {
			*c = (enum image_class)i;
			return 0;
		}
	return -EINVAL;
}

// splitmix64: a good mixer, and each number needs only a counter.
static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint64_t next(uint64_t *rng)
{
	*rng += UINT64_C(0x9e3779b97f4a7c15);
	return mix(*rng);
}

// Cuts `pages` of one class into runs.
static unsigned cut(struct image_run *runs, enum image_class c, uint32_t pages, uint64_t *rng)
{
	unsigned n = 0;

	while (pages > 0) {
		uint32_t len = IMAGE_RUN_MIN + next(rng) % (IMAGE_RUN_MAX - IMAGE_RUN_MIN + 1);

		if (len > pages || pages - len < IMAGE_RUN_MIN)
			len = pages <= IMAGE_RUN_MAX ? pages : pages / 2;
		runs[n++] = (struct image_run){.pages = len, .class = c};
		pages -= len;
	}
	return n;
}

// Holes are spread so that at each point of the block their share is as near as runs allow.
static void punch(struct image_run *runs, unsigned n, unsigned populate)
{
	uint64_t all = 0, there = 0;

	for (unsigned i = 0; i < n; i++) {
		all += runs[i].pages;
		runs[i].hole = (there + runs[i].pages / 2) * 100 >= all * populate;
		if (populate >= 100)
			runs[i].hole = false;
		if (!runs[i].hole)
			there += runs[i].pages;
	}
}

unsigned image_plan(const struct image *im, uint64_t b, struct image_run runs[IMAGE_RUNS])
{
	static const struct {
		enum image_class class;
		uint32_t percent;
	} shares[] = {{IMAGE_ZERO, 50}, {IMAGE_BINARY, 35}, {IMAGE_TEXT, 10}, {IMAGE_RANDOM, 5}};
	uint64_t rng = mix(im->seed ^ mix(b + 1)), at = b * IMAGE_BLOCK;
	unsigned n = 0;

	if (im->content == IMAGE_MIX) {
		for (unsigned i = 0; i < 4; i++)
			n += cut(runs + n, shares[i].class, IMAGE_BLOCK * shares[i].percent / 100,
				&rng);
		for (unsigned i = n; i > 1; i--) { // shuffle
			unsigned j = (unsigned)(next(&rng) % i);
			struct image_run t = runs[i - 1];

			runs[i - 1] = runs[j];
			runs[j] = t;
		}
	} else {
		n = cut(runs, im->content, IMAGE_BLOCK, &rng);
	}
	for (unsigned i = 0; i < n; i++) {
		runs[i].first = at;
		at += runs[i].pages;
	}
	punch(runs, n, im->populate);
	return n;
}

// Words as in logs and documents, the frequent ones first; 64 entries, 12 bytes each at most.
static const char words[64][12] = {"the ", "of ", "and ", "to ", "in ", "a ", "is ", "for ",
	"that ", "on ", "with ", "as ", "by ", "at ", "from ", "not ", "error: ", "info ",
	"id=", "value ", "memory ", "page ", "request ", "server ", "time ", "user ", "host ",
	"read ", "write ", "file ", "/usr/lib/", "0x", "status ", "system ", "network ", "return ",
	"process ", "device ", "session ", "index ", "block ", "buffer ", "length ", "message ",
	"started ", "finished ", "thread ", "failed ", "address ", "packet ", "queue ", "table ",
	"record ", "number ", "name=", "type=", "where ", "which ", "before ", "after ", "between ",
	"again ", "without ", "because "};

static void page_text(uint64_t *rng, char *dst)
{
	char *at = dst, *end = dst + PAGE;

	while (at < end - 16) {
		uint64_t r = next(rng);

		for (int k = 0; k < 6 && at < end - 16; k++, r >>= 10) {
			// The smaller of two draws: frequent words are frequent.
			unsigned a = r & 63, w = (r >> 4) & 63;

			if (a < w)
				w = a;
			memcpy(at, words[w], sizeof(words[w]));
			at += strlen(words[w]);
			if (w == 18 || w == 31) // a number follows
				for (unsigned d = 0; d < 4; d++)
					*at++ = (char)('0' + ((r >> (13 * d)) & 7));
		}
		*at++ = (r & 1) ? '\n' : ' ';
	}
	memset(at, '\n', (size_t)(end - at));
}

// Bytes that start many x86-64 instructions; operands follow them.
static const uint8_t code[32][4] = {{0x48, 0x8b, 0x45}, {0x48, 0x89, 0x44, 0x24},
	{0x48, 0x8d, 0x05}, {0xe8}, {0x0f, 0x84}, {0x74}, {0x75}, {0x48, 0x85, 0xc0}, {0x31, 0xc0},
	{0xc3}, {0x55}, {0x41, 0x57}, {0x5d}, {0x83, 0xf8}, {0x8b, 0x43}, {0x89, 0xc7},
	{0x0f, 0xb6, 0x00}, {0x48, 0x83, 0xc4}, {0x48, 0x83, 0xec}, {0xeb}, {0xe9},
	{0x4c, 0x89, 0xe7}, {0x66, 0x90}, {0x0f, 0x1f, 0x44}, {0x48, 0x39, 0xd0}, {0xff, 0x15},
	{0x8b, 0x05}, {0xc7, 0x45}, {0x85, 0xd2}, {0x44, 0x8b}, {0xba}, {0x48, 0xc7}};

// One part code, one part tables of pointers and small numbers, as executables have.
static void page_binary(uint64_t *rng, uint8_t *dst, bool table)
{
	uint8_t *at = dst, *end = dst + PAGE;
	uint64_t pointer = UINT64_C(0x400000) + (next(rng) & 0x3ffff0);

	while (at < end - 16) {
		uint64_t r = next(rng);

		if (table) {
			uint64_t v = (r & 3) ? pointer += (r >> 8) & 0x3f0 : (r >> 16) & 0xffff;

			memcpy(at, &v, 8);
			at += 8;
			continue;
		}
		for (int k = 0; k < 3 && at < end - 16; k++, r >>= 21) {
			unsigned a = r & 31, i = (r >> 5) & 31;
			uint32_t operand = (uint32_t)(r >> 10) & 0x7ff;

			i = a < i ? a : i;
			memcpy(at, code[i], 4);
			at += 2 + (code[i][2] != 0) + (code[i][3] != 0);
			if (i & 1) { // displacement of 32 bits, mostly small
				memcpy(at, &operand, 4);
				at += 4;
			} else {
				*at++ = (uint8_t)(operand & ((r & 0x400) ? 0xff : 0x38));
			}
		}
	}
	memset(at, 0, (size_t)(end - at));
}

// Objects of a few kinds: a header of the allocator, a pointer to what they are, links to
// neighbours, counts, flags, a name now and then, and what is left of the slot.
static void page_heap(uint64_t *rng, uint8_t *dst, uint64_t page)
{
	static const uint16_t sizes[8] = {32, 48, 48, 64, 64, 96, 128, 256};
	uint64_t heap = UINT64_C(0x7f3a10000000), type = UINT64_C(0x55d0c8a41000);
	uint8_t *at = dst, *end = dst + PAGE;

	memset(dst, 0, PAGE);
	while (at < end - 256) {
		uint64_t r = next(rng), slot = sizes[r & 7];
		uint64_t o[6] = {slot | 1, type + ((r >> 3) & 31) * 0x58,
			heap + page * PAGE + ((r >> 8) & 0xff0), (r >> 20) & 0x1f,
			heap + ((r >> 25) & 0xffffff0), (r >> 50) & 0xff};

		memcpy(at, o, slot < sizeof(o) ? slot : sizeof(o));
		for (uint8_t *name = at + sizeof(o); slot >= 96 && name < at + slot - 12;
			name += 12) {
			r = next(rng);
			memcpy(name, words[(r >> 5) & r & 63], 12);
		}
		at += slot;
	}
}

void image_page(enum image_class c, uint64_t seed, uint64_t page, void *dst)
{
	uint64_t rng = mix(seed ^ mix(page));
	uint64_t *q = dst;

	switch (c) {
	case IMAGE_TEXT:
		page_text(&rng, dst);
		break;
	case IMAGE_BINARY:
		page_binary(&rng, dst, page % 4 == 3);
		break;
	case IMAGE_HEAP:
		page_heap(&rng, dst, page);
		break;
	case IMAGE_RANDOM:
		for (unsigned i = 0; i < PAGE / 8; i++)
			q[i] = next(&rng);
		break;
	default:
		memset(dst, 0, PAGE);
	}
}

void image_fill(const struct image *im, uint64_t first, uint64_t n, uint8_t *dst)
{
	struct image_run runs[IMAGE_RUNS];

	for (uint64_t b = first / IMAGE_BLOCK; b * IMAGE_BLOCK < first + n; b++) {
		unsigned nruns = image_plan(im, b, runs);

		for (unsigned i = 0; i < nruns; i++) {
			uint64_t p = runs[i].first < first ? first : runs[i].first;
			uint64_t end = runs[i].first + runs[i].pages;

			if (end > first + n)
				end = first + n;
			for (; p < end && !runs[i].hole; p++)
				image_page(runs[i].class, im->seed, p, dst + (p - first) * PAGE);
		}
	}
}
