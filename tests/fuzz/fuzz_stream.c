// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: a hostile source's whole stream, through the tcp link into a target's flow. Frames
// after one another, cut anywhere, of passes and numbers that can't be.
//
// The input is the stream; its last byte says whether the link is sealed. Magic, version and
// checksums are put right in most headers, and most frames of a sealed link get the seal of a peer
// that has the keys, so that the fuzzer gets past them; then each answer of the flow is allowed but
// a crash, a hang, or a page written outside the guest.

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crc.h"
#include "flow.h"
#include "guard.h"

#define STREAM_MAX  (UINT64_C(64) << 10)
#define WIRE_MAX    (2 * STREAM_MAX) // a tag for each header at most
#define GUEST_PAGES (2 * CHUNK_PAGES + 3)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct region_map map;
static int listener = -1;
static struct sockaddr_in where;
static uint8_t stream[STREAM_MAX], wire[WIRE_MAX];
static const struct seal_secret secret = {.key = "the key that both ends have", .iv = "iv"};

static void setup(void)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	socklen_t len = sizeof(where);

	if (fd < 0 || ftruncate(fd, (off_t)(GUEST_PAGES * PAGE_BYTES)) != 0)
		abort();
	region_map_init(&map);
	if (region_add(&map, "ram", fd, GUEST_PAGES * PAGE_BYTES, 4096, NULL) != 0 ||
		region_mmap(&map.r[0], true, NULL) != 0 || guard_install() != 0)
		abort();
	where.sin_family = AF_INET;
	where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&where, len) != 0 ||
		listen(listener, 1) != 0 ||
		getsockname(listener, (struct sockaddr *)&where, &len) != 0)
		abort();
}

static void put_u32(uint8_t *at, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		at[i] = (uint8_t)(v >> 8 * i);
}

static uint32_t get_u32(const uint8_t *at)
{
	return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

// Makes a header plausible where its bytes 60 and 61, which the checksum replaces, ask for it: few
// inputs would get far otherwise.
static void make_plausible(uint8_t *at, uint64_t seq)
{
	uint8_t keep = at[60] & at[61];

	if (!(keep & 1))
		at[3] = (uint8_t)(FRAME_CHUNK + at[3] % 4);
	if (!(keep & 2)) {
		put_u32(at + 16, (uint32_t)(at[18] & 1) << 16); // region 0, a codec that exists
		put_u32(at + 20, at[20] % 4);                   // chunk
		put_u32(at + 24, at[3] == FRAME_CHUNK ? 1 : at[24] % 4);
	}
	if (!(keep & 4))
		put_u32(at + 4, at[4] % 3); // pass
	if (!(keep & 8)) {
		put_u32(at + 8, (uint32_t)seq);
		put_u32(at + 12, 0);
	}
	if (!(keep & 16)) { // masks in a byte each, disjoint, and a payload that fits them
		uint8_t data = at[3] == FRAME_CHUNK ? at[32] & 3 : 0;
		uint8_t zero = at[3] == FRAME_CHUNK ? at[40] & (uint8_t)~data : 0;
		uint8_t hole = at[3] == FRAME_CHUNK ? at[48] & (uint8_t) ~(data | zero) : 0;
		uint32_t pages = (data & 1u) + (data >> 1);

		memset(at + 32, 0, 28);
		at[32] = data;
		at[40] = zero;
		at[48] = hole;
		if (pages == 0)
			at[18] = 0;
		put_u32(at + 28, at[18] == 0 ? pages * (uint32_t)PAGE_BYTES
					     : 1 + get_u32(at + 28) % (pages * 64));
	}
}

// Header by header, where the reader will look for them.
static void mend(uint8_t *at, size_t left)
{
	for (uint64_t seq = 0; left >= FRAME_HDR_BYTES; seq++) {
		size_t payload;
		bool whole;

		make_plausible(at, seq);
		payload = get_u32(at + 28);
		whole = payload <= left - FRAME_HDR_BYTES;
		if (at[63] != 0xff) {
			at[0] = FRAME_MAGIC & 0xff;
			at[1] = FRAME_MAGIC >> 8;
			at[2] = FRAME_VERSION;
			if (whole && payload > 0 && at[62] != 0xff)
				put_u32(at + 56, crc32c(0, at + FRAME_HDR_BYTES, payload));
			put_u32(at + 60, crc32c(0, at, 60));
		}
		if (!whole)
			return;
		at += FRAME_HDR_BYTES + payload;
		left -= FRAME_HDR_BYTES + payload;
	}
}

// A frame as a peer with the keys sends it. Where the checksum's place asks for it the tag is
// wrong: nothing of the frame may be placed then, and nothing after it. Returns its bytes on the
// wire.
static size_t seal_frame(
	struct seal *s, uint64_t number, const uint8_t *at, size_t payload, uint8_t *out)
{
	struct iovec in = {(void *)(uintptr_t)(at + FRAME_HDR_BYTES), payload};
	struct seal_text text = {.number = number,
		.aad = out,
		.aad_bytes = FRAME_HDR_BYTES,
		.nseg = payload > 0 ? 1 : 0,
		.seg = &in,
		.out = out + FRAME_HDR_BYTES,
		.tag = out + FRAME_HDR_BYTES + payload};

	memcpy(out, at, FRAME_HDR_BYTES);
	if (seal_seal(s, &text, 1) != 1)
		abort();
	text.tag[0] ^= at[56] == 0xff;
	return FRAME_HDR_BYTES + payload + SEAL_TAG_BYTES;
}

// The stream, sealed frame by frame; what is no whole frame goes as it is.
static size_t seal_stream(size_t size)
{
	const struct seal_ops *ops = seal_best("aes-256-gcm");
	size_t at = 0, out = 0;
	struct seal *s;

	if (ops == NULL || seal_new(&s, ops, &secret, -1, NULL) != 0)
		abort();
	for (uint64_t number = 0; size - at >= FRAME_HDR_BYTES; number++) {
		size_t payload = get_u32(stream + at + 28);

		if (payload > size - at - FRAME_HDR_BYTES)
			break;
		out += seal_frame(s, number, stream + at, payload, wire + out);
		at += FRAME_HDR_BYTES + payload;
	}
	seal_free(s);
	memcpy(wire + out, stream + at, size - at);
	return out + size - at;
}

static void feed(struct flow *f, int source, const uint8_t *bytes, size_t size)
{
	uint8_t answers[4096];
	size_t at = 0;

	for (unsigned idle = 0; idle < 20 && atomic_load(&f->error) == 0;) {
		ssize_t n =
			at < size ? send(source, bytes + at, size - at, MSG_DONTWAIT | MSG_NOSIGNAL)
				  : 0;

		if (n > 0)
			at += (size_t)n;
		if (at == size && n == 0)
			shutdown(source, SHUT_WR);
		idle = flow_poll(f) || n > 0 ? 0 : idle + 1;
		while (recv(source, answers, sizeof(answers), MSG_DONTWAIT) > 0)
			;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct recv_job job = {0};
	struct linger reset = {.l_onoff = 1};
	struct link *link;
	struct flow *flow;
	int source, target;
	bool sealed;

	if (listener < 0)
		setup();
	if (size == 0 || size > STREAM_MAX)
		return 0;
	sealed = data[--size] & 1;
	memcpy(stream, data, size);
	mend(stream, size);
	source = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (source < 0 || connect(source, (struct sockaddr *)&where, sizeof(where)) != 0)
		abort();
	// No port is left waiting for its time to pass.
	setsockopt(source, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	target = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (target < 0 || recv_job_init(&job, &map, false, NULL) != 0 ||
		link_tcp_open(&link, target, false, -1, NULL) != 0 ||
		(sealed && link_tcp_seal(link, seal_best("aes-256-gcm"), &secret, &secret, -1,
				   NULL) != 0) ||
		flow_recv_new(&flow, &job, link, 0, -1, NULL) != 0)
		abort();
	if (sealed)
		feed(flow, source, wire, seal_stream(size));
	else
		feed(flow, source, stream, size);
	close(source);
	flow_free(flow);
	recv_job_fini(&job);
	return 0;
}
