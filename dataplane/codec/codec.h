/* SPDX-License-Identifier: BSD-3-Clause */
/* The codec port: pages in, payload out, and back. A codec holds one core's scratch memory, made at
 * open; encode and decode allocate nothing and make no system call. */
#ifndef GODWIT_DATAPLANE_CODEC_H
#define GODWIT_DATAPLANE_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

enum codec_id { CODEC_RAW = 0, CODEC_DEFLATE = 1, CODEC_LZ4 = 2, CODEC_ZSTD = 3, CODEC_IDS };

struct codec;

struct codec_ops {
	const char *name;
	uint8_t id; /* enum codec_id, on the wire */
	int level_min, level_max, level_default;
	/* node: NUMA node for its memory, or -1. 0 or -errno with e set. */
	int (*open)(struct codec **c, int level, int node, struct err *e);
	/* Encodes in_bytes (a multiple of 4096, up to CHUNK_BYTES). Returns the bytes written to
	 * out, or 0 when the result would not be smaller than out_bytes: then the frame goes raw.
	 * The input does not change while this runs (pages of a running guest are staged first). */
	size_t (*encode)(struct codec *c, const uint8_t *in, size_t in_bytes, uint8_t *out,
		size_t out_bytes);
	/* Decodes; the result must be exactly out_bytes long and the input used up, else -EBADMSG.
	 * Never reads or writes past the given bounds, whatever the input. */
	int (*decode)(struct codec *c, const uint8_t *in, size_t in_bytes, uint8_t *out,
		size_t out_bytes);
	void (*close)(struct codec *c); /* NULL is allowed */
};

struct codec {
	const struct codec_ops *ops;
	int level;
};

/* The rows, ended by NULL; raw first. raw has no encode and decode: its payload is the pages. */
extern const struct codec_ops *const codec_table[];
const struct codec_ops *codec_by_name(const char *name);
const struct codec_ops *codec_by_id(uint8_t id);

/* Reads "auto", "raw", "lz4", "zstd", "zstd:1". 0, or -EINVAL with e set and the choices named. */
int codec_parse(const char *text, const struct codec_ops **ops, int *level, struct err *e);

/* The name of no row, of no use but to be told from them: chosen frame by frame (auto.h). */
extern const struct codec_ops codec_auto;

extern const struct codec_ops codec_raw;
extern const struct codec_ops codec_isal;
extern const struct codec_ops codec_lz4;
extern const struct codec_ops codec_zstd;

#endif
