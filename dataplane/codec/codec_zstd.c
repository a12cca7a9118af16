// SPDX-License-Identifier: BSD-3-Clause
// Zstandard (RFC 8878) by libzstd: one frame of it a frame of ours, with its content size. Opened
// and closed by control threads; encode and decode run on the one polling core that owns the codec.
//
// The library works in memory that it is given at open and never allocates (its static contexts).
// The decoder's memory lies last, before a page that faults: what came from outside works in it.
// What is decoded is one frame and no more: no skippable frames, no formats of older versions.

#include "codec.h"

#include "mem.h"
#include "region.h"

#include <errno.h>

#define ZSTD_STATIC_LINKING_ONLY // contexts in memory that we give
#include <zstd.h>

#define LEVEL_MAX 9 // levels above want megabytes for each core, and gain little on 256 KiB

struct codec_zstd {
	struct codec codec;
	ZSTD_CCtx *out;
	ZSTD_DCtx *in;
	size_t all_bytes; // of this allocation, both contexts included
	uint8_t contexts[] __attribute__((aligned(64)));
};

// What compressing 1 to 64 pages may need: the library tunes itself to the size.
static size_t out_bytes_of(int level)
{
	size_t most = 0;

	for (size_t bytes = PAGE_BYTES; bytes <= CHUNK_BYTES; bytes *= 2) {
		size_t n = ZSTD_estimateCCtxSize_usingCParams(ZSTD_getCParams(level, bytes, 0));

		most = n > most ? n : most;
	}
	return (most + 63) & ~(size_t)63;
}

static int zstd_open(struct codec **c, int level, int node, struct err *e)
{
	struct codec_zstd *z;
	size_t out_bytes, bytes;

	if (level < 1 || level > LEVEL_MAX)
		return err_set(e, EINVAL, "compression zstd: level %d is not one of 1 to %d", level,
			LEVEL_MAX);
	out_bytes = out_bytes_of(level);
	bytes = sizeof(*z) + out_bytes + ZSTD_estimateDCtxSize();
	z = mem_new_guarded(bytes, node);
	if (z == NULL)
		return err_set(e, ENOMEM, "no memory for codec zstd: %zu bytes", bytes);
	z->codec.ops = &codec_zstd;
	z->codec.level = level;
	z->all_bytes = bytes;
	z->out = ZSTD_initStaticCCtx(z->contexts, out_bytes);
	z->in = ZSTD_initStaticDCtx(z->contexts + out_bytes, ZSTD_estimateDCtxSize());
	if (z->out == NULL || z->in == NULL) {
		mem_free_guarded(z, bytes);
		return err_set(e, EIO, "codec zstd: libzstd does not take the memory it asked for");
	}
	*c = &z->codec;
	return 0;
}

static void zstd_close(struct codec *c)
{
	struct codec_zstd *z = (struct codec_zstd *)c;

	if (z != NULL)
		mem_free_guarded(z, z->all_bytes);
}

static size_t zstd_encode(
	struct codec *c, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
	struct codec_zstd *z = (struct codec_zstd *)c;
	size_t n;

	if (in_bytes == 0 || in_bytes > CHUNK_BYTES || out_bytes < 2)
		return 0;
	// One byte less than the limit: what fits is then smaller.
	n = ZSTD_compressCCtx(z->out, out, out_bytes - 1, in, in_bytes, c->level);
	return ZSTD_isError(n) ? 0 : n;
}

static int zstd_decode(
	struct codec *c, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
	struct codec_zstd *z = (struct codec_zstd *)c;

	if (ZSTD_getFrameContentSize(in, in_bytes) != out_bytes ||
		ZSTD_findFrameCompressedSize(in, in_bytes) != in_bytes)
		return -EBADMSG;
	return ZSTD_decompressDCtx(z->in, out, out_bytes, in, in_bytes) == out_bytes ? 0 : -EBADMSG;
}

const struct codec_ops codec_zstd = {
	.name = "zstd",
	.id = CODEC_ZSTD,
	.level_min = 1,
	.level_max = LEVEL_MAX,
	.level_default = 1,
	.open = zstd_open,
	.encode = zstd_encode,
	.decode = zstd_decode,
	.close = zstd_close,
};
