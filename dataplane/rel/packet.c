// SPDX-License-Identifier: BSD-3-Clause
// Datagrams of the nic link. Run by polling cores on both sides; pure functions of their arguments.
//
// packet_open() stands before everything else: what has not the flow's token and a tag that matches
// is dropped there; on a sealed flow, packet_read() and the seal. What get returns as good obeys
// the rules of PROTOCOL.md that can be checked without the flow's state.

#include "packet.h"

#include "crc.h"
#include "plant.h"
#include "wire.h"

#include <string.h>

#define TAG_END          (PACKET_TAG_AT + PACKET_TAG_BYTES)
#define PACKET_NUMBER_AT 16u
#define PACKET_WORD_AT   24u

// word: the first field of its type.
static void put_common(
	struct wire_writer *w, uint8_t *buf, size_t room, const struct packet *p, uint64_t word)
{
	static const uint8_t tag[PACKET_TAG_BYTES];

	wire_write_init(w, buf, room);
	wire_put_u16(w, PACKET_MAGIC);
	wire_put_u8(w, PACKET_VERSION);
	wire_put_u8(w, p->type);
	wire_put_u16(w, p->bytes);
	wire_put_u16(w, p->flags);
	wire_put_u64(w, p->token);
	wire_put_u64(w, p->number);
	wire_put_u64(w, word);
	wire_put_bytes(w, tag, sizeof(tag));
}

size_t packet_put_data(
	uint8_t buf[PACKET_DATA_BYTES], const struct packet *p, const struct packet_data *d)
{
	struct wire_writer w;

	put_common(&w, buf, PACKET_DATA_BYTES, p, d->pos);
	wire_put_u16(&w, d->settled_back);
	wire_put_u16(&w, d->marks_known);
	wire_put_u32(&w, d->settled_pos_back);
	wire_put_u32(&w, d->offset);
	wire_put_u32(&w, d->bytes);
	wire_put_bytes(&w, d->frame, FRAME_HDR_BYTES);
	return wire_len(&w, buf);
}

size_t packet_put_ping(
	uint8_t buf[PACKET_PING_BYTES], const struct packet *p, const struct packet_ping *g)
{
	struct wire_writer w;

	put_common(&w, buf, PACKET_PING_BYTES, p, g->settled);
	wire_put_u64(&w, g->settled_pos);
	wire_put_u16(&w, g->marks_known);
	wire_put_u16(&w, 0);
	wire_put_u32(&w, 0);
	return wire_len(&w, buf);
}

static size_t ack_bytes(const struct packet_ack *a)
{
	return PACKET_ACK_BYTES + 8 * ((size_t)a->nwords + a->nframes + a->nmarks) +
	       (a->has_barrier ? FRAME_HDR_BYTES : 0);
}

size_t packet_put_ack(
	uint8_t buf[PACKET_ACK_MOST], const struct packet *p, const struct packet_ack *a)
{
	struct packet copy = *p;
	struct wire_writer w;

	copy.bytes = (uint16_t)ack_bytes(a);
	put_common(&w, buf, PACKET_ACK_MOST, &copy, a->largest);
	wire_put_u32(&w, a->delay_ns);
	wire_put_u32(&w, a->ce);
	wire_put_u64(&w, a->frame_limit);
	wire_put_u64(&w, a->pos_limit);
	wire_put_u64(&w, a->answered);
	wire_put_u8(&w, a->nwords);
	wire_put_u8(&w, a->nframes);
	wire_put_u8(&w, a->nmarks);
	wire_put_u8(&w, a->has_barrier);
	wire_put_u16(&w, a->first_mark);
	wire_put_u16(&w, a->away);
	for (unsigned i = 0; i < a->nwords; i++)
		wire_put_u64(&w, a->word[i]);
	for (unsigned i = 0; i < a->nframes; i++)
		wire_put_u64(&w, a->frame[i]);
	for (unsigned i = 0; i < a->nmarks; i++)
		wire_put_u64(&w, a->mark[i]);
	if (a->has_barrier)
		wire_put_bytes(&w, a->barrier, FRAME_HDR_BYTES);
	return wire_len(&w, buf);
}

size_t packet_put_bye(
	uint8_t buf[PACKET_BYE_BYTES], const struct packet *p, const struct packet_bye *b)
{
	struct wire_writer w;

	put_common(&w, buf, PACKET_BYE_BYTES, p, b->reason);
	return wire_len(&w, buf);
}

// Of what stands around the tag.
static uint32_t sum_header(const uint8_t *buf, size_t bytes)
{
	return crc32c(crc32c(0, buf, PACKET_TAG_AT), buf + TAG_END, bytes - TAG_END);
}

void packet_seal(uint8_t *hdr, size_t hdr_bytes, const struct iovec *seg, unsigned nseg)
{
	uint32_t sum = sum_header(hdr, hdr_bytes);
	struct wire_writer w;

	for (unsigned i = 0; i < nseg; i++)
		sum = crc32c(sum, seg[i].iov_base, seg[i].iov_len);
	wire_write_init(&w, hdr + PACKET_TAG_AT, PACKET_TAG_BYTES);
	wire_put_u32(&w, sum);
}

static size_t least_bytes(uint8_t type)
{
	switch (type) {
	case PACKET_DATA:
		return PACKET_DATA_BYTES;
	case PACKET_PING:
		return PACKET_PING_BYTES;
	case PACKET_ACK:
		return PACKET_ACK_BYTES;
	case PACKET_BYE:
		return PACKET_BYE_BYTES;
	default:
		return 0;
	}
}

static uint64_t u64_at(const uint8_t *hdr, size_t at)
{
	struct wire_reader r;

	wire_read_init(&r, hdr + at, sizeof(uint64_t));
	return wire_u64(&r);
}

uint64_t packet_number(const uint8_t hdr[PACKET_HDR_BYTES])
{
	return u64_at(hdr, PACKET_NUMBER_AT);
}

int packet_read(
	struct packet *p, uint64_t token, const uint8_t *buf, size_t len, size_t *covered_bytes)
{
	struct wire_reader r;
	uint16_t magic;
	uint8_t version;
	size_t covered;

	if (len < PACKET_HDR_BYTES)
		return -PACKET_BAD_SHORT;
	wire_read_init(&r, buf, len);
	magic = wire_u16(&r);
	version = wire_u8(&r);
	p->type = wire_u8(&r);
	p->bytes = wire_u16(&r);
	p->flags = wire_u16(&r);
	p->token = wire_u64(&r);
	p->number = wire_u64(&r);
	if (magic != PACKET_MAGIC)
		return -PACKET_BAD_MAGIC;
	if (version != PACKET_VERSION)
		return -PACKET_BAD_VERSION;
	if (p->token != token)
		return -PACKET_BAD_TOKEN;
	covered = least_bytes(p->type);
	if (covered == 0)
		return -PACKET_BAD_TYPE;
	if (p->bytes > len || p->bytes < covered)
		return -PACKET_BAD_SHORT;
	*covered_bytes = p->type == PACKET_PING ? covered : p->bytes;
	return 0;
}

int packet_open(struct packet *p, uint64_t token, const uint8_t *buf, size_t len)
{
	static const uint8_t zeros[PACKET_TAG_BYTES - 4];
	struct wire_reader r;
	size_t covered;
	int rc = packet_read(p, token, buf, len, &covered);
	uint32_t sum;

	if (rc < 0)
		return rc;
	wire_read_init(&r, buf + PACKET_TAG_AT, PACKET_TAG_BYTES);
	sum = wire_u32(&r);
	if (sum_header(buf, covered) != sum && !plant(PLANT_NIC_TAKE_CORRUPT))
		return -PACKET_BAD_SUM;
	return memcmp(r.at, zeros, sizeof(zeros)) == 0 ? 0 : -PACKET_BAD_SUM;
}

static struct wire_reader body(const struct packet *p, const uint8_t *buf)
{
	struct wire_reader r;

	wire_read_init(&r, buf + PACKET_HDR_BYTES, p->bytes - PACKET_HDR_BYTES);
	return r;
}

int packet_get_data(struct packet_data *d, const struct packet *p, const uint8_t *buf)
{
	struct wire_reader r = body(p, buf);

	d->pos = u64_at(buf, PACKET_WORD_AT);
	d->settled_back = wire_u16(&r);
	d->marks_known = wire_u16(&r);
	d->settled_pos_back = wire_u32(&r);
	d->offset = wire_u32(&r);
	d->bytes = wire_u32(&r);
	d->frame = buf + PACKET_DATA_BYTES - FRAME_HDR_BYTES;
	d->part = buf + PACKET_DATA_BYTES;
	if (d->bytes != p->bytes - PACKET_DATA_BYTES || d->offset % PACKET_LINE_BYTES != 0 ||
		d->pos % PACKET_LINE_BYTES != 0 || d->settled_pos_back > d->pos)
		return -PACKET_BAD_FIELD;
	return 0;
}

int packet_get_ping(struct packet_ping *g, const struct packet *p, const uint8_t *buf)
{
	struct wire_reader r = body(p, buf);
	uint32_t zeros = 0;

	g->settled = u64_at(buf, PACKET_WORD_AT);
	g->settled_pos = wire_u64(&r);
	g->marks_known = wire_u16(&r);
	zeros |= wire_u16(&r);
	zeros |= wire_u32(&r);
	return g->settled_pos % PACKET_LINE_BYTES == 0 && zeros == 0 ? 0 : -PACKET_BAD_FIELD;
}

int packet_get_ack(struct packet_ack *a, const struct packet *p, const uint8_t *buf)
{
	struct wire_reader r = body(p, buf);
	uint16_t barrier;

	a->largest = u64_at(buf, PACKET_WORD_AT);
	a->delay_ns = wire_u32(&r);
	a->ce = wire_u32(&r);
	a->frame_limit = wire_u64(&r);
	a->pos_limit = wire_u64(&r);
	a->answered = wire_u64(&r);
	a->nwords = wire_u8(&r);
	a->nframes = wire_u8(&r);
	a->nmarks = wire_u8(&r);
	barrier = wire_u8(&r);
	a->first_mark = wire_u16(&r);
	a->away = wire_u16(&r);
	a->has_barrier = barrier == 1;
	if (a->nwords > PACKET_ACK_WORDS || a->nframes > PACKET_ACK_FRAMES ||
		a->nmarks > PACKET_ACK_MARKS || barrier > 1 || ack_bytes(a) != p->bytes ||
		(uint64_t)a->nwords > a->largest / 64 + 1)
		return -PACKET_BAD_FIELD;
	for (unsigned i = 0; i < a->nwords; i++)
		a->word[i] = wire_u64(&r);
	for (unsigned i = 0; i < a->nframes; i++)
		a->frame[i] = wire_u64(&r);
	for (unsigned i = 0; i < a->nmarks; i++)
		a->mark[i] = wire_u64(&r);
	if (a->has_barrier)
		wire_bytes(&r, a->barrier, FRAME_HDR_BYTES);
	return wire_done(&r) ? 0 : -PACKET_BAD_FIELD;
}

int packet_get_bye(struct packet_bye *b, const struct packet *p, const uint8_t *buf)
{
	uint64_t reason = u64_at(buf, PACKET_WORD_AT);

	(void)p;
	b->reason = (uint32_t)reason;
	return reason <= UINT32_MAX ? 0 : -PACKET_BAD_FIELD;
}
