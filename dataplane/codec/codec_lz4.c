// SPDX-License-Identifier: BSD-3-Clause
// LZ4 by liblz4: one block (the library's block format) a frame. Opened and closed by control
// threads; encode and decode run on the one polling core that owns the codec.
//
// A level above 0 is the library's acceleration: it looks for less, and is faster.
//
// The library's state stands behind the codec's own; nothing is allocated after open. Decoding
// needs none.

#include "codec.h"

#include "mem.h"
#include "region.h"

#include <errno.h>
#include <lz4.h>

struct codec_lz4 {
	struct codec codec;
	size_t all_bytes; // of this allocation, the state included
	uint8_t state[] __attribute__((aligned(64)));
};

static int lz4_open(struct codec **c, int level, int node, struct err *e)
{
	size_t bytes = sizeof(struct codec_lz4) + (size_t)LZ4_sizeofState();
	struct codec_lz4 *l;

	if (level < 0)
		return err_set(e, EINVAL, "compression lz4: level %d is below 0", level);
	l = mem_new(bytes, node);
	if (l == NULL)
		return err_set(e, ENOMEM, "no memory for codec lz4: %zu bytes", bytes);
	l->codec.ops = &codec_lz4;
	l->codec.level = level;
	l->all_bytes = bytes;
	*c = &l->codec;
	return 0;
}

static void lz4_close(struct codec *c)
{
	struct codec_lz4 *l = (struct codec_lz4 *)c;

	if (l != NULL)
		mem_free(l, l->all_bytes);
}

static size_t lz4_encode(
	struct codec *c, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
	struct codec_lz4 *l = (struct codec_lz4 *)c;
	int n;

	if (in_bytes == 0 || in_bytes > CHUNK_BYTES || out_bytes < 2 || out_bytes > INT32_MAX)
		return 0;
	// One byte less than the limit: what fits is then smaller.
	n = LZ4_compress_fast_extState(l->state, (const char *)in, (char *)out, (int)in_bytes,
		(int)out_bytes - 1, c->level > 0 ? c->level : 1);
	return n > 0 ? (size_t)n : 0;
}

static int lz4_decode(
	struct codec *c, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
	(void)c;
	if (in_bytes == 0 || in_bytes > INT32_MAX || out_bytes == 0 || out_bytes > INT32_MAX)
		return -EBADMSG;
	// Takes all of the input, or says that it is wrong.
	if (LZ4_decompress_safe((const char *)in, (char *)out, (int)in_bytes, (int)out_bytes) !=
		(int)out_bytes)
		return -EBADMSG;
	return 0;
}

const struct codec_ops codec_lz4 = {
	.name = "lz4",
	.id = CODEC_LZ4,
	.open = lz4_open,
	.encode = lz4_encode,
	.decode = lz4_decode,
	.close = lz4_close,
};
