// SPDX-License-Identifier: BSD-3-Clause
// Compression alone: ISA-L by itself, and the rows of the codec table, there and back.

#include "stage.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <stdlib.h>
#include <string.h>

#include "choose.h"
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
	b->encoded_bytes = (double)bytes;
	return b->pages;
}

static void plain_close(void *state)
{
	mem_free(state, sizeof(struct plain));
}

// Rows of the codec table. What a stage is of: a row, a level, and how many pages it gets at once.
#define OF(row, level, pages) ((row) << 16 | (level) << 8 | (pages))
#define ROW_OF(arg)           ((uint8_t)((arg) >> 16))
#define LEVEL_OF(arg)         ((arg) >> 8 & 0xff)
#define PAGES_OF(arg)         ((uint32_t)(arg)&0xff)

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

// Encoding, the gathering included: what the core pays for a page that goes by this codec.
struct encoding {
	struct codec *codec;
	uint8_t pages[CHUNK_BYTES];
	uint8_t out[CHUNK_BYTES];
};

static void encode_close(void *state)
{
	struct encoding *s = state;

	s->codec->ops->close(s->codec);
	mem_free(s, sizeof(*s));
}

static int encode_open(struct bench *b, int arg, void **state)
{
	struct encoding *s = mem_new(sizeof(*s), -1);

	(void)b;
	if (s == NULL)
		return -errno;
	zero_init();
	if (codec_by_id(ROW_OF(arg))->open(&s->codec, LEVEL_OF(arg), -1, NULL) != 0) {
		mem_free(s, sizeof(*s));
		return -ENOMEM;
	}
	*state = s;
	return 0;
}

static uint64_t encode_run(struct bench *b, int arg, void *state)
{
	struct encoding *s = state;
	uint64_t done = 0, bytes = 0;

	for (uint64_t c = 0; c < b->map.nchunks; c++) {
		uint32_t n = gather(region_chunk_addr(&b->map.r[0], c), s->pages);

		for (uint32_t at = 0; at < n; at += PAGES_OF(arg)) {
			uint32_t some = n - at < PAGES_OF(arg) ? n - at : PAGES_OF(arg);
			size_t left = s->codec->ops->encode(s->codec, s->pages + at * PAGE_BYTES,
				some * PAGE_BYTES, s->out, some * PAGE_BYTES);

			bytes += left > 0 ? left : some * PAGE_BYTES; // 0: it goes as it is
		}
		done += n;
	}
	b->encoded_bytes = (double)bytes;
	return done > 0 ? done : b->pages;
}

// The look that tells what kind of content a chunk holds.
static uint64_t kind_run(struct bench *b, int arg, void *state)
{
	uint64_t sum = 0;

	(void)arg;
	(void)state;
	for (uint64_t c = 0; c < b->map.nchunks; c++) {
		struct iovec seg = {region_chunk_addr(&b->map.r[0], c), CHUNK_BYTES};

		sum += choose_kind(&seg, 1, CHUNK_BYTES);
	}
	bench_use(sum);
	return b->pages;
}

// Decoding of chunks that were encoded before, as many as the store holds.
#define STORE_BYTES (UINT64_C(32) << 20)
#define STORE_MOST  (STORE_BYTES / 64)

struct packed {
	uint64_t at;
	uint32_t bytes;
	uint32_t pages;
};

struct decoding {
	struct codec *codec;
	uint64_t n;
	uint8_t pages[CHUNK_BYTES];
	uint8_t store[STORE_BYTES];
	struct packed packed[STORE_MOST];
};

static void decode_close(void *state)
{
	struct decoding *s = state;

	s->codec->ops->close(s->codec);
	mem_free(s, sizeof(*s));
}

static int decode_open(struct bench *b, int arg, void **state)
{
	struct decoding *s = mem_new(sizeof(*s), -1);
	uint64_t at = 0;

	if (s == NULL)
		return -errno;
	zero_init();
	if (codec_by_id(ROW_OF(arg))->open(&s->codec, LEVEL_OF(arg), -1, NULL) != 0) {
		mem_free(s, sizeof(*s));
		return -ENOMEM;
	}
	for (uint64_t c = 0; c < b->map.nchunks && at + CHUNK_BYTES <= STORE_BYTES; c++) {
		uint32_t n = gather(region_chunk_addr(&b->map.r[0], c), s->pages);
		size_t bytes = s->codec->ops->encode(
			s->codec, s->pages, n * PAGE_BYTES, s->store + at, n * PAGE_BYTES);

		if (bytes == 0 || s->n == STORE_MOST)
			continue;
		s->packed[s->n++] = (struct packed){at, (uint32_t)bytes, n};
		at += bytes;
	}
	if (s->n == 0) {
		decode_close(s);
		return -ENODATA;
	}
	*state = s;
	return 0;
}

static uint64_t decode_run(struct bench *b, int arg, void *state)
{
	struct decoding *s = state;
	uint64_t done = 0;

	(void)b;
	(void)arg;
	for (uint64_t i = 0; i < s->n; i++) {
		const struct packed *p = &s->packed[i];

		if (s->codec->ops->decode(s->codec, s->store + p->at, p->bytes, s->pages,
			    p->pages * PAGE_BYTES) != 0)
			abort();
		done += p->pages;
	}
	return done;
}

#define PLAIN  "isal_deflate_stateless, one call a chunk"
#define ISAL   plain_open, plain_run, plain_close
#define ENCODE encode_open, encode_run, encode_close
#define DECODE decode_open, decode_run, decode_close
#define WHOLE  "content of a chunk gathered and encoded"
#define PIECES "the same, so many pages at a time"
#define BACK   "decoded again"

const struct stage stage_codec[] = {
	{"isal/0", PLAIN, 0, ISAL},
	{"isal/1", PLAIN, 1, ISAL},
	{"isal/2", PLAIN, 2, ISAL},
	{"isal/3", PLAIN, 3, ISAL},
	{"encode/lz4", WHOLE, OF(CODEC_LZ4, 0, 64), ENCODE},
	{"encode/lz4-16", PIECES, OF(CODEC_LZ4, 0, 16), ENCODE},
	{"encode/lz4-4", PIECES, OF(CODEC_LZ4, 0, 4), ENCODE},
	{"encode/lz4-1", PIECES, OF(CODEC_LZ4, 0, 1), ENCODE},
	{"encode/deflate:0", WHOLE, OF(CODEC_DEFLATE, 0, 64), ENCODE},
	{"encode/deflate:1", WHOLE, OF(CODEC_DEFLATE, 1, 64), ENCODE},
	{"encode/deflate:1-16", PIECES, OF(CODEC_DEFLATE, 1, 16), ENCODE},
	{"encode/deflate:1-4", PIECES, OF(CODEC_DEFLATE, 1, 4), ENCODE},
	{"encode/deflate:1-1", PIECES, OF(CODEC_DEFLATE, 1, 1), ENCODE},
	{"encode/deflate:3", WHOLE, OF(CODEC_DEFLATE, 3, 64), ENCODE},
	{"encode/zstd:1", WHOLE, OF(CODEC_ZSTD, 1, 64), ENCODE},
	{"encode/zstd:1-16", PIECES, OF(CODEC_ZSTD, 1, 16), ENCODE},
	{"encode/zstd:1-4", PIECES, OF(CODEC_ZSTD, 1, 4), ENCODE},
	{"encode/zstd:1-1", PIECES, OF(CODEC_ZSTD, 1, 1), ENCODE},
	{"encode/zstd:3", WHOLE, OF(CODEC_ZSTD, 3, 64), ENCODE},
	{"encode/zstd:5", WHOLE, OF(CODEC_ZSTD, 5, 64), ENCODE},
	{"encode/kind", "the kind of content of a chunk, for auto", 0, NULL, kind_run, NULL},
	{"decode/lz4", BACK, OF(CODEC_LZ4, 0, 64), DECODE},
	{"decode/deflate:0", BACK, OF(CODEC_DEFLATE, 0, 64), DECODE},
	{"decode/deflate:1", BACK, OF(CODEC_DEFLATE, 1, 64), DECODE},
	{"decode/deflate:3", BACK, OF(CODEC_DEFLATE, 3, 64), DECODE},
	{"decode/zstd:1", BACK, OF(CODEC_ZSTD, 1, 64), DECODE},
	{"decode/zstd:3", BACK, OF(CODEC_ZSTD, 3, 64), DECODE},
	{NULL, NULL, 0, NULL, NULL, NULL},
};
