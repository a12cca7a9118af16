// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: datagrams as a hostile peer that knows the token would send them, to both ends.
//
// The input is a byte whose lowest bit says that both ends are sealed, then a row of datagrams: a
// length in two bytes, then what follows magic and version. The first fields and the tag are put
// right, so that the fuzzer gets past them; a sealed flow's tag is its link's, and stays as it is.
// One in eight datagrams goes as it is. Whatever comes, memory stays whole and parts stay within
// what was granted.

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bits.h"
#include "codec.h"
#include "crc.h"
#include "rel_recv.h"
#include "rel_send.h"

#define TOKEN UINT64_C(0x1122334455667788)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct rel_config cfg;
static void *send_mem, *recv_mem;
static uint8_t *ring;

static void setup(void)
{
	rel_config_init(&cfg);
	cfg.token_in = cfg.token_out = TOKEN;
	cfg.frames = 64;
	cfg.packets = 4096;
	cfg.ring_bytes = 1 << 19;
	cfg.mtu_most = 9000;
	cfg.overhead_bytes = 28;
	send_mem = malloc(rel_send_bytes(&cfg));
	recv_mem = malloc(rel_recv_bytes(&cfg));
	ring = malloc(cfg.ring_bytes + FRAME_PAYLOAD_BYTES);
	if (send_mem == NULL || recv_mem == NULL || ring == NULL)
		abort();
}

static void put32(uint8_t *at, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		at[i] = (uint8_t)(v >> 8 * i);
}

static void mend(uint8_t *p, size_t len, uint8_t type)
{
	struct iovec none = {0};

	if (len < PACKET_PING_BYTES)
		return;
	p[0] = PACKET_MAGIC & 0xff;
	p[1] = PACKET_MAGIC >> 8;
	p[2] = PACKET_VERSION;
	p[3] = type;
	p[4] = (uint8_t)len;
	p[5] = (uint8_t)(len >> 8);
	put32(p + 8, (uint32_t)TOKEN);
	put32(p + 12, TOKEN >> 32);
	if (type == PACKET_DATA && len >= PACKET_DATA_BYTES) {
		uint8_t *f = p + PACKET_DATA_BYTES - FRAME_HDR_BYTES;

		put32(p + 60, (uint32_t)(len - PACKET_DATA_BYTES));
		f[0] = FRAME_MAGIC & 0xff;
		f[1] = FRAME_MAGIC >> 8;
		f[2] = FRAME_VERSION;
		put32(f + 60, crc32c(0, f, 60));
	}
	if (cfg.sealed)
		return;
	memset(p + PACKET_TAG_AT, 0, PACKET_TAG_BYTES);
	packet_seal(p, type == PACKET_PING ? PACKET_PING_BYTES : len, &none, 0);
}

static void to_target(struct rel_recv *r, uint64_t now, const uint8_t *p, size_t len, uint8_t how)
{
	const struct frame *hdr;
	struct rel_part part;
	struct rel_out out;
	uint64_t pos;

	if (rel_recv_packet(r, now, p, len, how & 1, &part)) {
		if (part.pos < r->answered_pos ||
			part.pos + part.offset + part.bytes > r->answered_pos + cfg.ring_bytes ||
			part.data < p || part.data + part.bytes > p + len)
			abort();
		if (part.bytes > 0)
			memcpy(ring + part.pos % cfg.ring_bytes + part.offset, part.data,
				part.bytes);
	}
	if ((how & 2) && rel_recv_take(r, &hdr, &pos)) {
		struct frame answer = {.type = FRAME_BARRIER_ACK, .seq = hdr->seq};

		if (hdr->type == FRAME_BARRIER)
			rel_recv_answer_barrier(r, now, &answer);
		else
			rel_recv_answer(r, now, hdr->seq, how >> 2 & 3 ? REL_PLACED : REL_TORN);
	}
	rel_recv_timer(r, now);
	while (rel_recv_next_packet(r, now, &out))
		;
}

static void to_source(struct rel_send *s, uint64_t now, const uint8_t *p, size_t len)
{
	struct frame f = {.type = FRAME_CHUNK, .chunks = 1, .data = 7, .codec = CODEC_RAW};
	struct rel_done done;
	struct rel_out out;

	f.payload_bytes = 3 * PAGE_BYTES;
	rel_send_frame(s, &f, now);
	rel_send_packet_in(s, now, p, len);
	rel_send_timer(s, now);
	for (unsigned i = 0; i < 8 && rel_send_next_packet(s, now, &out); i++)
		if (out.bytes > 0 && out.offset + out.bytes > f.payload_bytes)
			abort();
	while (rel_send_take(s, &done))
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t to_targets[] = {PACKET_DATA, PACKET_PING, PACKET_DATA, PACKET_BYE};
	static const uint8_t to_sources[] = {PACKET_ACK, PACKET_ACK, PACKET_ACK, PACKET_BYE};
	uint64_t now = 1000000000;
	struct rel_recv recv;
	struct rel_send send;

	if (send_mem == NULL)
		setup();
	if (size == 0)
		return 0;
	cfg.sealed = data[0] & 1;
	data++;
	size--;
	memset(send_mem, 0, rel_send_bytes(&cfg));
	memset(recv_mem, 0, rel_recv_bytes(&cfg));
	rel_send_init(&send, &cfg, send_mem, now);
	rel_recv_init(&recv, &cfg, recv_mem, now);
	while (size > 3) {
		uint8_t how = data[0], *p;
		size_t len = (data[1] | data[2] << 8) % 2048;

		data += 3;
		size -= 3;
		len = len < size ? len : size;
		p = malloc(len + 1); // of its own, so that reading past it is seen
		if (p == NULL)
			abort();
		memcpy(p, data, len);
		if (how >> 5 != 7)
			mend(p, len, (how & 16 ? to_targets : to_sources)[how & 3]);
		now += (uint64_t)how * 10000;
		if (how & 16)
			to_target(&recv, now, p, len, how);
		else
			to_source(&send, now, p, len);
		free(p);
		data += len;
		size -= len;
	}
	return 0;
}
