// SPDX-License-Identifier: BSD-3-Clause
// From chunks to frames. Run by the source's polling core; the open and close are pack_open.c's.
//
// Invariants: bytes that the codec reads do not change under it: pages of a running guest are
// copied to the stage first. A raw payload is read from guest memory by the link, perhaps after its
// checksum was taken; that is law 10's case. The bytes of an encoded frame stay in their slot until
// link.sent has passed it.

#include "pack.h"

#include "bits.h"
#include "cpu.h"
#include "crc.h"
#include "zero.h"

#include <string.h>

static void spend(struct pack *p, enum stats_id stage, uint64_t *since)
{
	uint64_t now = cpu_cycles();

	stats_add(p->stats, stage, now - *since);
	*since = now;
}

// Frames made that the wire has not begun to take.
static unsigned waiting(const struct pack *p)
{
	return p->tail - p->head + p->link->behind;
}

// Bytes of frames made that wait to leave; below 0: the link does not tell.
static double held_bytes(const struct pack *p)
{
	double bytes = (double)p->link->held_bytes;

	for (unsigned at = p->head; at != p->tail; at++)
		bytes += p->queue[at % PACK_QUEUE].hdr.payload_bytes;
	return p->link->tells_held ? bytes : -1;
}

// Whether a frame more would only wait.
static bool full(const struct pack *p)
{
	if (p->link->tells_held)
		return choose_full(&p->automatic->choose, held_bytes(p));
	return p->waiting >= AUTO_WAITING;
}

static bool has_room(struct pack *p, uint64_t sent)
{
	if (PACK_QUEUE - (p->tail - p->head) < PACK_PER_CHUNK)
		return false;
	if (p->slots == NULL)
		return true;
	p->waiting = waiting(p);
	if (p->automatic != NULL && full(p))
		return false;
	while (p->freed < p->made && p->seq[p->freed % p->nslots] < sent)
		p->freed++;
	return p->made - p->freed < p->nslots;
}

bool pack_room(struct pack *p, uint64_t sent)
{
	bool room = has_room(p, sent);

	p->waited |= !room;
	return room;
}

static struct link_tx *next_frame(
	struct pack *p, uint8_t type, uint16_t region, uint32_t chunk, uint32_t chunks)
{
	struct link_tx *t = &p->queue[p->tail++ % PACK_QUEUE];

	t->nseg = 0;
	t->uncopied = t->direct = t->keyless = false;
	t->hdr = (struct frame){
		.type = type,
		.region = region,
		.pass = p->pass,
		.chunk = chunk,
		.chunks = chunks,
	};
	return t;
}

static void end_run(struct pack *p, struct pack_run *run, uint8_t type)
{
	if (run->n > 0)
		next_frame(p, type, run->region, run->chunk, run->n);
	run->n = 0;
}

static void add_to_run(struct pack *p, struct pack_run *run, uint8_t type, uint32_t most,
	uint16_t region, uint32_t chunk)
{
	if (run->n > 0 && (run->region != region || run->chunk + run->n != chunk || run->n >= most))
		end_run(p, run, type);
	if (run->n == 0) {
		run->region = region;
		run->chunk = chunk;
	}
	run->n++;
}

bool pack_flush(struct pack *p)
{
	if (PACK_QUEUE - (p->tail - p->head) < PACK_PER_CHUNK)
		return false;
	end_run(p, &p->zero, FRAME_ZERO);
	end_run(p, &p->hole, FRAME_HOLE);
	return true;
}

// Segments of the pages in mask, neighbours in one; their bytes.
static uint32_t segments(struct link_tx *t, uint8_t *base, uint64_t mask)
{
	uint32_t bytes = 0;

	t->nseg = 0;
	while (mask != 0) {
		unsigned first, n = bits_run(mask, &first);

		t->seg[t->nseg++] =
			(struct iovec){base + first * PAGE_BYTES, n * (size_t)PAGE_BYTES};
		bytes += n * (uint32_t)PAGE_BYTES;
		mask &= ~bits_mask(first, n);
	}
	return bytes;
}

// What data has cost the core so far, but for codecs. Scanning is left out: nearly all of it is for
// zero pages, of which there may be a terabyte between two frames.
static uint64_t busy_cycles(const struct pack *p)
{
	return stats_get(p->stats, STAT_cycles_encode) - p->codec_cycles +
	       stats_get(p->stats, STAT_cycles_seal) + stats_get(p->stats, STAT_cycles_send);
}

// The codec for a frame, the last of the queue, by what waits; NULL: raw.
static struct codec *choose(struct pack *p, const struct link_tx *t, uint32_t bytes)
{
	struct choose_link l = {.now_cycles = cpu_cycles(),
		.sent_bytes = p->link->tx_bytes,
		.told_cycles = p->link->told_cycles,
		.left_bytes = p->link->left_bytes,
		.held_bytes = held_bytes(p),
		.waiting = p->waiting > 0,
		.waited = p->waited,
		.pressure = p->pressure,
		.content_bytes = stats_get(p->stats, STAT_bytes_raw),
		.busy_cycles = busy_cycles(p),
		.target_busy = p->link->peer_busy / 255.0};
	double behind = p->waiting < 2 ? (double)p->waiting - 1 : 1;

	p->waited = false;
	if (l.held_bytes >= bytes)
		l.held_bytes -= bytes; // its own
	else if (l.pressure < behind)
		l.pressure = behind;
	return auto_pick(p->automatic, &l, t->seg, t->nseg, bytes);
}

// Encodes what the segments name into a slot. False when that saves nothing: the frame stays raw.
static bool encode(struct pack *p, struct codec *codec, struct link_tx *t, uint32_t bytes)
{
	unsigned slot = p->made % p->nslots;
	uint8_t *out = p->slots + slot * CHUNK_BYTES;
	uint8_t *stage = p->stage;
	uint64_t t0 = cpu_cycles(), cycles;
	size_t n;

	for (unsigned i = 0; i < t->nseg; i++) {
		memcpy(stage, t->seg[i].iov_base, t->seg[i].iov_len);
		stage += t->seg[i].iov_len;
	}
	n = codec->ops->encode(codec, p->stage, bytes, out, bytes);
	cycles = cpu_cycles() - t0;
	p->codec_cycles += cycles;
	if (p->automatic != NULL)
		auto_learn(p->automatic, bytes, n, cycles);
	if (n == 0)
		return false;
	t->hdr.codec = codec->ops->id;
	stats_add(p->stats, (enum stats_id)(STAT_pages_deflate + t->hdr.codec - CODEC_DEFLATE),
		bytes >> PAGE_SHIFT);
	t->hdr.payload_bytes = (uint32_t)n;
	t->seg[0] = (struct iovec){out, n};
	t->nseg = 1;
	p->at[slot] = p->tail - 1;
	p->seq[slot] = UINT64_MAX;
	p->made++;
	return true;
}

static void add_payload(struct pack *p, struct link_tx *t, uint8_t *base, uint64_t data)
{
	uint32_t bytes = segments(t, base, data);
	struct codec *codec;

	t->hdr.payload_bytes = bytes;
	stats_add(p->stats, STAT_bytes_raw, bytes);
	codec = p->automatic != NULL ? choose(p, t, bytes) : p->codec;
	if (codec != NULL)
		encode(p, codec, t, bytes);
	for (unsigned i = 0; i < t->nseg && !p->sealed && (p->sum_raw || t->hdr.codec != CODEC_RAW);
		i++)
		t->hdr.payload_crc =
			crc32c(t->hdr.payload_crc, t->seg[i].iov_base, t->seg[i].iov_len);
	stats_add(p->stats, STAT_bytes_encoded, t->hdr.payload_bytes);
}

void pack_chunk(struct pack *p, uint16_t region, uint32_t chunk, uint64_t data, uint64_t hole)
{
	const struct region *r = &p->map->r[region];
	uint64_t all = region_chunk_mask(r, chunk);
	uint8_t *base = region_chunk_addr(r, chunk);
	uint64_t t0 = cpu_cycles();
	uint64_t zero = data != 0 ? zero_scan(base, data) : 0;
	struct link_tx *t;

	spend(p, STAT_cycles_scan, &t0);
	if (zero == all) {
		add_to_run(p, &p->zero, FRAME_ZERO, PACK_ZERO_CHUNKS, region, chunk);
		return;
	}
	if (hole == all) {
		add_to_run(p, &p->hole, FRAME_HOLE, PACK_HOLE_CHUNKS, region, chunk);
		return;
	}
	t = next_frame(p, FRAME_CHUNK, region, chunk, 1);
	t->hdr.data = data & ~zero;
	t->hdr.zero = zero;
	t->hdr.hole = hole;
	if (t->hdr.data != 0)
		add_payload(p, t, base, t->hdr.data);
	spend(p, STAT_cycles_encode, &t0);
}

// The link has numbered the frame at this position of the queue.
static void slot_sent(struct pack *p, unsigned at, uint64_t seq)
{
	for (uint64_t i = p->made; i-- > p->freed;)
		if (p->seq[i % p->nslots] == UINT64_MAX && p->at[i % p->nslots] == at) {
			p->seq[i % p->nslots] = seq;
			break;
		}
}

unsigned pack_push(
	struct pack *p, struct link *l, void (*taken)(void *arg, const struct frame *f), void *arg)
{
	unsigned n = 0;

	while (p->head != p->tail) {
		struct link_tx *t = &p->queue[p->head % PACK_QUEUE];
		uint64_t t0 = p->sealed ? cpu_cycles() : 0;

		if (l->ops->tx(l, t, 1) == 0)
			break;
		if (p->sealed)
			spend(p, STAT_cycles_seal, &t0);
		if (t->hdr.codec != CODEC_RAW)
			slot_sent(p, p->head, t->hdr.seq);
		if (t->uncopied)
			stats_add(p->stats, STAT_pages_uncopied, bits_count(t->hdr.data));
		if (t->direct)
			stats_add(p->stats, STAT_pages_direct, bits_count(t->hdr.data));
		if (t->keyless)
			stats_add(p->stats, STAT_pages_keyless, bits_count(t->hdr.data));
		taken(arg, &t->hdr);
		p->head++;
		n++;
	}
	return n;
}
