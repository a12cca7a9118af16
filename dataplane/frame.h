/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames: what one chunk, or a run of chunks that hold only zeros or holes, becomes on the wire.
 * PROTOCOL.md has the picture. A header is 64 bytes, little-endian:
 *
 *    0 u16 magic 0x4757     16 u16 region          28 u32 payload bytes
 *    2 u8  version          18 u8  codec           32 u64 data mask  (BARRIER: frames)
 *    3 u8  type             19 u8  busy, of ACK    40 u64 zero mask  (BARRIER: running sum)
 *    4 u32 pass             20 u32 chunk           48 u64 hole mask  (BARRIER: torn frames)
 *    8 u64 seq              24 u32 chunks          56 u32 CRC32C of the payload
 *                                                  60 u32 CRC32C of bytes 0 to 59
 *
 * A CHUNK frame names one chunk of a region; its masks are disjoint; the payload is the pages of
 * the data mask, lowest first, as the codec made them. ZERO and HOLE frames name `chunks` chunks
 * whose pages are all zero or all holes, and have no masks and no payload. Fields that a type does
 * not use are 0. seq counts a flow's frames from 0. */
#ifndef GODWIT_DATAPLANE_FRAME_H
#define GODWIT_DATAPLANE_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "region.h"

#define FRAME_MAGIC     0x4757u
#define FRAME_VERSION   1
#define FRAME_HDR_BYTES 64u
#define FRAME_PAYLOAD_BYTES                                                                        \
	((uint32_t)CHUNK_BYTES)     /* most: an encoded chunk that is larger goes raw */
#define FRAME_RUN_CHUNKS (1u << 20) /* most chunks in one ZERO or HOLE frame */

enum frame_type {
	/* source to target */
	FRAME_CHUNK = 1,
	FRAME_ZERO,
	FRAME_HOLE,
	FRAME_BARRIER, /* the pass is over on this flow; data = frames, zero = sum of all of them */
	/* target to source; seq names the frame */
	FRAME_ACK = 16,    /* all frames with a lower seq were placed or refused */
	FRAME_TORN,        /* frame seq did not match its checksum and was not placed */
	FRAME_BARRIER_ACK, /* data = frames placed, zero = their sum, hole = frames refused as torn
			    */
	FRAME_BYE,         /* either way: no more will come; data = reason (0: done, else errno) */
};

struct frame {
	uint8_t type;
	uint8_t codec; /* enum codec_id */
	uint16_t region;
	uint32_t pass;
	uint64_t seq;
	uint32_t chunk;  /* in its region */
	uint32_t chunks; /* 1 for CHUNK */
	uint32_t payload_bytes;
	uint8_t busy; /* ACK: of 255 cycles of the target's core so many had work; 0: not told */
	uint64_t data;
	uint64_t zero;
	uint64_t hole;
	uint32_t payload_crc;
	uint32_t hdr_crc; /* set by encode and decode */
};

/* Writes the header and sets f->hdr_crc. f is valid. */
void frame_encode(struct frame *f, uint8_t buf[FRAME_HDR_BYTES]);

/* Reads a header from buf, which holds FRAME_HDR_BYTES. 0, or a negative value of enum frame_bad.
 * Checks all that can be checked without the guest: magic, version, type, checksum, reserved bytes,
 * lengths, that masks are disjoint and fit the type. */
int frame_decode(struct frame *f, const uint8_t buf[FRAME_HDR_BYTES]);

/* Checks a source-to-target frame against the guest: region, chunks and masks exist. Returns 0 or
 * a negative value of enum frame_bad. */
int frame_check(const struct frame *f, const struct region_map *map);

enum frame_bad {
	FRAME_BAD_MAGIC = 1,
	FRAME_BAD_VERSION,
	FRAME_BAD_TYPE,
	FRAME_BAD_CRC,
	FRAME_BAD_LENGTH,
	FRAME_BAD_MASK,
	FRAME_BAD_CODEC,
	FRAME_BAD_REGION,
	FRAME_BAD_CHUNK,
	FRAME_BAD_RESERVED,
	FRAME_BAD_ORDER, /* a seq or pass that can't be */
};
/* What was wrong, for a message: "checksum of the header does not match". */
const char *frame_bad_text(int bad);

/* One frame's share of the running sum of a pass: order does not matter, content does. */
static inline uint64_t frame_sum(const struct frame *f)
{
	uint64_t x = ((uint64_t)f->hdr_crc << 32 | f->payload_crc) + f->seq;

	x ^= x >> 31;
	return x * UINT64_C(0x9e3779b97f4a7c15);
}

#endif
