// SPDX-License-Identifier: BSD-3-Clause
// Deflate (RFC 1951) by ISA-L: one stateless stream a frame. Opened and closed by control threads;
// encode and decode run on the one polling core that owns the codec.
//
// The library's scratch memory is made at open and used again for every frame. A stream ends with
// its frame, so a frame that was lost or torn costs no other. The decoder's lies last, before a
// page that faults: what came from outside works in it.

#include "codec.h"

#include "mem.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>

struct codec_deflate {
	struct codec codec;
	struct isal_zstream out;
	struct inflate_state *in; // behind the level memory
	uint32_t level_bytes;
	size_t all_bytes; // of this allocation, level memory and decoder included
	uint8_t level_mem[] __attribute__((aligned(64)));
};

static const uint32_t level_bytes[] = {
	ISAL_DEF_LVL0_DEFAULT, ISAL_DEF_LVL1_DEFAULT, ISAL_DEF_LVL2_DEFAULT, ISAL_DEF_LVL3_DEFAULT};

static int deflate_open(struct codec **c, int level, int node, struct err *e)
{
	struct codec_deflate *d;
	size_t before, bytes;

	if (level < 0 || level > ISAL_DEF_MAX_LEVEL)
		return err_set(e, EINVAL, "compression deflate: level %d is not one of 0 to %d",
			level, ISAL_DEF_MAX_LEVEL);
	before = sizeof(*d) + ((level_bytes[level] + 63) & ~(size_t)63);
	bytes = before + sizeof(*d->in);
	d = mem_new_guarded(bytes, node);
	if (d == NULL)
		return err_set(e, ENOMEM, "no memory for codec deflate: %zu bytes", bytes);
	d->codec.ops = &codec_isal;
	d->codec.level = level;
	d->in = (struct inflate_state *)((uint8_t *)d + before);
	d->level_bytes = level_bytes[level];
	d->all_bytes = bytes;
	*c = &d->codec;
	return 0;
}

static void deflate_close(struct codec *c)
{
	struct codec_deflate *d = (struct codec_deflate *)c;

	if (d != NULL)
		mem_free_guarded(d, d->all_bytes);
}

static size_t deflate_encode(
	struct codec *c, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
	struct codec_deflate *d = (struct codec_deflate *)c;
	struct isal_zstream *s = &d->out;

	if (in_bytes == 0 || in_bytes > UINT32_MAX || out_bytes < 2 || out_bytes > UINT32_MAX)
		return 0;
	isal_deflate_stateless_init(s);
	s->level = (uint32_t)c->level;
	s->level_buf = d->level_bytes > 0 ? d->level_mem : NULL;
	s->level_buf_size = d->level_bytes;
	s->end_of_stream = 1;
	s->flush = NO_FLUSH;
	// The library only reads; its field lacks const.
	s->next_in = (uint8_t *)in;
	s->avail_in = (uint32_t)in_bytes;
	s->next_out = out;
	// One byte less than the limit: what fits is then smaller.
	s->avail_out = (uint32_t)out_bytes - 1;
	if (isal_deflate_stateless(s) != COMP_OK || s->avail_in != 0)
		return 0;
	return s->total_out;
}

static int deflate_decode(
	struct codec *c, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
	struct codec_deflate *d = (struct codec_deflate *)c;
	struct inflate_state *s = d->in;

	if (in_bytes == 0 || in_bytes > UINT32_MAX || out_bytes > UINT32_MAX)
		return -EBADMSG;
	isal_inflate_init(s);
	s->next_in = (uint8_t *)in;
	s->avail_in = (uint32_t)in_bytes;
	s->next_out = out;
	s->avail_out = (uint32_t)out_bytes;
	if (isal_inflate_stateless(s) != ISAL_DECOMP_OK)
		return -EBADMSG;
	if (s->block_state != ISAL_BLOCK_FINISH || s->avail_in != 0 || s->avail_out != 0)
		return -EBADMSG;
	return 0;
}

const struct codec_ops codec_isal = {
	.name = "deflate",
	.id = CODEC_DEFLATE,
	.level_min = 0,
	.level_max = ISAL_DEF_MAX_LEVEL,
	.level_default = 1,
	.open = deflate_open,
	.encode = deflate_encode,
	.decode = deflate_decode,
	.close = deflate_close,
};
