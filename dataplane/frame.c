// SPDX-License-Identifier: BSD-3-Clause
// Frame headers. Run by polling cores on both sides; pure functions over their arguments.
//
// decode takes bytes from outside: it goes through the bounded reader, and what it returns as good
// obeys every rule that frame.h states for the type, so later code needs no second look at anything
// but the guest's own bounds (frame_check).

#include "frame.h"

#include "bits.h"
#include "codec.h"
#include "crc.h"
#include "plant.h"
#include "wire.h"

#define FRAME_CRC_AT 60u

static bool is_codec(uint8_t id)
{
	return id < CODEC_IDS;
}

void frame_encode(struct frame *f, uint8_t buf[FRAME_HDR_BYTES])
{
	struct wire_writer w;

	wire_write_init(&w, buf, FRAME_HDR_BYTES);
	wire_put_u16(&w, FRAME_MAGIC);
	wire_put_u8(&w, FRAME_VERSION);
	wire_put_u8(&w, f->type);
	wire_put_u32(&w, f->pass);
	wire_put_u64(&w, f->seq);
	wire_put_u16(&w, f->region);
	wire_put_u8(&w, f->codec);
	wire_put_u8(&w, f->busy);
	wire_put_u32(&w, f->chunk);
	wire_put_u32(&w, f->chunks);
	wire_put_u32(&w, f->payload_bytes);
	wire_put_u64(&w, f->data);
	wire_put_u64(&w, f->zero);
	wire_put_u64(&w, f->hole);
	wire_put_u32(&w, f->payload_crc);
	f->hdr_crc = crc32c(0, buf, FRAME_CRC_AT);
	wire_put_u32(&w, f->hdr_crc);
}

// Content: masks and payload agree.
static int check_content(const struct frame *f)
{
	uint64_t content_bytes = bits_count(f->data) * PAGE_BYTES;

	if (f->chunks != 1)
		return -FRAME_BAD_LENGTH;
	if ((f->data & f->zero) | (f->data & f->hole) | (f->zero & f->hole))
		return -FRAME_BAD_MASK;
	if ((f->data | f->zero | f->hole) == 0)
		return -FRAME_BAD_MASK;
	if (!is_codec(f->codec))
		return -FRAME_BAD_CODEC;
	if (f->codec == CODEC_RAW && f->payload_bytes != content_bytes)
		return -FRAME_BAD_LENGTH;
	if (f->payload_bytes > content_bytes || (f->payload_bytes == 0 && content_bytes != 0))
		return -FRAME_BAD_LENGTH;
	if (content_bytes == 0 && (f->codec != CODEC_RAW || f->payload_crc != 0))
		return -FRAME_BAD_RESERVED;
	return 0;
}

// No payload, and nothing that would describe one.
static int check_empty(const struct frame *f)
{
	if (f->payload_bytes != 0)
		return -FRAME_BAD_LENGTH;
	return f->codec == 0 && f->payload_crc == 0 ? 0 : -FRAME_BAD_RESERVED;
}

static int check_run(const struct frame *f)
{
	if (f->chunks == 0 || f->chunks > FRAME_RUN_CHUNKS)
		return -FRAME_BAD_LENGTH;
	if ((f->data | f->zero | f->hole) != 0)
		return -FRAME_BAD_MASK;
	return check_empty(f);
}

// A frame about the flow, not about memory.
static int check_word(const struct frame *f)
{
	if (f->region != 0 || f->chunk != 0 || f->chunks != 0)
		return -FRAME_BAD_RESERVED;
	return check_empty(f);
}

static int check_answer(const struct frame *f)
{
	if ((f->data | f->zero | f->hole) != 0)
		return -FRAME_BAD_MASK;
	return check_word(f);
}

static int check_type(const struct frame *f)
{
	switch (f->type) {
	case FRAME_CHUNK:
		return check_content(f);
	case FRAME_ZERO:
	case FRAME_HOLE:
		return check_run(f);
	case FRAME_BARRIER:
	case FRAME_BARRIER_ACK:
	case FRAME_BYE:
		return check_word(f);
	case FRAME_ACK:
	case FRAME_TORN:
		return check_answer(f);
	default:
		return -FRAME_BAD_TYPE;
	}
}

int frame_decode(struct frame *f, const uint8_t buf[FRAME_HDR_BYTES])
{
	struct wire_reader r;
	uint16_t magic;
	uint8_t version;

	wire_read_init(&r, buf, FRAME_HDR_BYTES);
	magic = wire_u16(&r);
	version = wire_u8(&r);
	f->type = wire_u8(&r);
	f->pass = wire_u32(&r);
	f->seq = wire_u64(&r);
	f->region = wire_u16(&r);
	f->codec = wire_u8(&r);
	f->busy = wire_u8(&r);
	f->chunk = wire_u32(&r);
	f->chunks = wire_u32(&r);
	f->payload_bytes = wire_u32(&r);
	f->data = wire_u64(&r);
	f->zero = wire_u64(&r);
	f->hole = wire_u64(&r);
	f->payload_crc = wire_u32(&r);
	f->hdr_crc = wire_u32(&r);

	if (!wire_done(&r))
		return -FRAME_BAD_LENGTH;
	if (magic != FRAME_MAGIC)
		return -FRAME_BAD_MAGIC;
	// The version stays where it is for all versions; the rest of the header may not.
	if (version != FRAME_VERSION)
		return -FRAME_BAD_VERSION;
	if (crc32c(0, buf, FRAME_CRC_AT) != f->hdr_crc)
		return -FRAME_BAD_CRC;
	if (f->busy != 0 && f->type != FRAME_ACK)
		return -FRAME_BAD_RESERVED;
	return check_type(f);
}

int frame_check(const struct frame *f, const struct region_map *map)
{
	const struct region *r;

	if (f->type == FRAME_BARRIER || f->type == FRAME_BYE)
		return 0;
	if (f->type != FRAME_CHUNK && f->type != FRAME_ZERO && f->type != FRAME_HOLE)
		return -FRAME_BAD_TYPE;
	if (f->region >= map->n)
		return -FRAME_BAD_REGION;
	r = &map->r[f->region];
	if ((f->chunk >= r->nchunks || f->chunks > r->nchunks - f->chunk) &&
		!plant(PLANT_LAW7_TRUST_CHUNK))
		return -FRAME_BAD_CHUNK;
	if ((f->data | f->zero | f->hole) & ~region_chunk_mask(r, f->chunk))
		return -FRAME_BAD_MASK;
	return 0;
}

const char *frame_bad_text(int bad)
{
	switch (bad < 0 ? -bad : bad) {
	case FRAME_BAD_MAGIC:
		return "this is not the beginning of a frame";
	case FRAME_BAD_VERSION:
		return "frame version is not the one agreed on";
	case FRAME_BAD_TYPE:
		return "frame type is unknown, or wrong for this direction";
	case FRAME_BAD_CRC:
		return "checksum of the header does not match";
	case FRAME_BAD_LENGTH:
		return "payload or run length does not fit the frame";
	case FRAME_BAD_MASK:
		return "page masks overlap, are empty, or name pages that do not exist";
	case FRAME_BAD_CODEC:
		return "codec is unknown, or not the one agreed on";
	case FRAME_BAD_REGION:
		return "the guest has no such region";
	case FRAME_BAD_CHUNK:
		return "the region has no such chunk";
	case FRAME_BAD_RESERVED:
		return "a field that must be 0 is not";
	case FRAME_BAD_ORDER:
		return "frame number or pass is out of order";
	default:
		return "the frame is bad";
	}
}
