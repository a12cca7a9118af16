// SPDX-License-Identifier: BSD-3-Clause
// Compression alone: ISA-L by itself, and the codec's way back.

#include "stage.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "mem.h"
#include "zero.h"

#define OUT_BYTES (CHUNK_BYTES + PAGE_BYTES)

// ISA-L as its documentation uses it, one call a chunk: what the deflate path is measured against.
struct plain {
	struct isal_zstream stream;
	uint32_t level_bytes;
	uint8_t out[OUT_BYTES];
	uint8_t level[ISAL_DEF_LVL3_DEFAULT];
};

static int plain_open(struct bench *b, int arg, void **state)
{
	static const uint32_t level_bytes[] = {ISAL_DEF_LVL0_DEFAULT, ISAL_DEF_LVL1_DEFAULT,
		ISAL_DEF_LVL2_DEFAULT, ISAL_DEF_LVL3_DEFAULT};
	struct plain *p = mem_new(sizeof(*p), -1);

	(void)b;
	if (p == NULL)
		return -errno;
	p->level_bytes = level_bytes[arg];
	*state = p;
	return 0;
}

static uint64_t plain_run(struct bench *b, int arg, void *state)
{
	struct plain *p = state;
	uint64_t bytes = 0;

	for (uint64_t c = 0; c < b->map.nchunks; c++) {
		isal_deflate_stateless_init(&p->stream);
		p->stream.level = (uint32_t)arg;
		p->stream.level_buf = p->level_bytes > 0 ? p->level : NULL;
		p->stream.level_buf_size = p->level_bytes;
		p->stream.end_of_stream = 1;
		p->stream.flush = NO_FLUSH;
		p->stream.next_in = region_chunk_addr(&b->map.r[0], c);
		p->stream.avail_in = CHUNK_BYTES;
		p->stream.next_out = p->out;
		p->stream.avail_out = OUT_BYTES;
		if (isal_deflate_stateless(&p->stream) != COMP_OK)
			abort();
		bytes += p->stream.total_out;
	}
	bench_use(bytes);
	return b->pages;
}

static void plain_close(void *state)
{
	mem_free(state, sizeof(struct plain));
}

// Inflate of chunks that were encoded before, as many as the store holds.
#define STORE_BYTES (UINT64_C(128) << 20)
#define STORE_MOST  (STORE_BYTES / 64)

struct packed {
	uint64_t at;
	uint32_t bytes;
	uint32_t pages;
};

struct inflate {
	struct codec *codec;
	uint64_t n;
	uint8_t pages[CHUNK_BYTES];
	uint8_t store[STORE_BYTES];
	struct packed packed[STORE_MOST];
};

static void inflate_close(void *state)
{
	struct inflate *s = state;

	codec_isal.close(s->codec);
	mem_free(s, sizeof(*s));
}

// The chunk's pages of content, gathered. Returns how many.
static uint32_t gather(const uint8_t *base, uint8_t *pages)
{
	uint64_t data = ~zero_scan(base, UINT64_MAX);
	uint32_t n = 0;

	for (; data != 0; data &= data - 1)
		memcpy(pages + n++ * PAGE_BYTES,
			base + (unsigned)__builtin_ctzll(data) * PAGE_BYTES, PAGE_BYTES);
	return n;
}

static int inflate_open(struct bench *b, int arg, void **state)
{
	struct inflate *s = mem_new(sizeof(*s), -1);
	uint64_t at = 0;

	if (s == NULL)
		return -errno;
	if (codec_isal.open(&s->codec, arg, -1, NULL) != 0) {
		mem_free(s, sizeof(*s));
		return -ENOMEM;
	}
	for (uint64_t c = 0; c < b->map.nchunks && at + CHUNK_BYTES <= STORE_BYTES; c++) {
		uint32_t n = gather(region_chunk_addr(&b->map.r[0], c), s->pages);
		size_t bytes = codec_isal.encode(
			s->codec, s->pages, n * PAGE_BYTES, s->store + at, n * PAGE_BYTES);

		if (bytes == 0 || s->n == STORE_MOST)
			continue;
		s->packed[s->n++] = (struct packed){at, (uint32_t)bytes, n};
		at += bytes;
	}
	if (s->n == 0) {
		inflate_close(s);
		return -ENODATA;
	}
	*state = s;
	return 0;
}

static uint64_t inflate_run(struct bench *b, int arg, void *state)
{
	struct inflate *s = state;
	uint64_t done = 0;

	(void)b;
	(void)arg;
	for (uint64_t i = 0; i < s->n; i++) {
		const struct packed *p = &s->packed[i];

		if (codec_isal.decode(s->codec, s->store + p->at, p->bytes, s->pages,
			    p->pages * PAGE_BYTES) != 0)
			abort();
		done += p->pages;
	}
	return done;
}

#define PLAIN "isal_deflate_stateless, one call a chunk"

const struct stage stage_codec[] = {
	{"isal/0", PLAIN, 0, plain_open, plain_run, plain_close},
	{"isal/1", PLAIN, 1, plain_open, plain_run, plain_close},
	{"isal/2", PLAIN, 2, plain_open, plain_run, plain_close},
	{"isal/3", PLAIN, 3, plain_open, plain_run, plain_close},
	{"inflate/0", "decode what level 0 made", 0, inflate_open, inflate_run, inflate_close},
	{"inflate/1", "decode what level 1 made", 1, inflate_open, inflate_run, inflate_close},
	{"inflate/3", "decode what level 3 made", 3, inflate_open, inflate_run, inflate_close},
	{NULL, NULL, 0, NULL, NULL, NULL},
};
