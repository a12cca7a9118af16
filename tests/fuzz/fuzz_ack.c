// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: what a hostile target answers to the frames of a source's tcp link.
//
// The first byte says whether the link is sealed. Each answer is four bytes: how (its lowest two
// bits choose the type; 4: a header of any 60 bytes follows, whose magic, version and checksum are
// put right; 8: the checksum or the tag is wrong; 16: the source sends another frame first), the
// number that it answers, and two of the sums of a barrier's answer. Whatever comes, each frame is
// done once, in order, and none that was not sent.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crc.h"
#include "link.h"

#define FRAMES  64u // sent, at most
#define ANSWERS 64u
#define CRC_AT  60u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct seal_secret secret = {.key = "the key that both ends have", .iv = "iv"};

struct wire {
	struct link *link;
	int peer;
	struct seal *seal; // of the peer's answers; NULL: plain
	uint64_t sealed;   // answers so far
	uint64_t done;     // frames that were reported
	uint64_t barrier;  // number of the barrier under way; FRAMES: none
};

// Two ends of a connection; no port is left waiting for its time to pass.
static void connect_pair(int sv[2])
{
	static int listener = -1;
	static struct sockaddr_in where = {.sin_family = AF_INET};
	const struct linger reset = {.l_onoff = 1};
	socklen_t len = sizeof(where);

	if (listener < 0) {
		where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (listener < 0 || bind(listener, (struct sockaddr *)&where, len) != 0 ||
			listen(listener, 1) != 0 ||
			getsockname(listener, (struct sockaddr *)&where, &len) != 0)
			abort();
	}
	sv[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sv[1] < 0 || connect(sv[1], (struct sockaddr *)&where, sizeof(where)) != 0)
		abort();
	setsockopt(sv[1], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	sv[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
}

static void open_wire(struct wire *w, bool sealed)
{
	const struct seal_ops *ops = seal_best("aes-256-gcm");
	int sv[2];

	memset(w, 0, sizeof(*w));
	w->barrier = FRAMES;
	connect_pair(sv);
	if (link_tcp_open(&w->link, sv[0], true, -1, NULL) != 0)
		abort();
	w->peer = sv[1];
	if (sealed && (ops == NULL || seal_new(&w->seal, ops, &secret, -1, NULL) != 0 ||
			      link_tcp_seal(w->link, ops, &secret, &secret, -1, NULL) != 0))
		abort();
}

// The next frame: most are zeros, some are the barrier of their pass, after which none goes.
static void tx(struct wire *w, uint8_t which)
{
	struct link_tx t = {.hdr = {.type = FRAME_ZERO, .chunks = 1}};

	if (w->link->next_seq == FRAMES || w->barrier != FRAMES)
		return;
	if (which % 8 == 7)
		t.hdr = (struct frame){.type = FRAME_BARRIER, .data = w->link->next_seq};
	if (w->link->ops->tx(w->link, &t, 1) == 1 && t.hdr.type == FRAME_BARRIER)
		w->barrier = t.hdr.seq;
}

static void turn(struct wire *w)
{
	struct link_done d[8];
	char gone[4096];
	unsigned n;

	for (unsigned i = 0; i < 2; i++)
		w->link->ops->poll(w->link);
	while (recv(w->peer, gone, sizeof(gone), MSG_DONTWAIT) > 0)
		;
	while ((n = w->link->ops->done(w->link, d, 8)) > 0)
		for (unsigned i = 0; i < n; i++, w->done++) {
			bool barrier = w->done == w->barrier;

			if (w->done >= w->link->sent || d[i].hdr.seq != w->done ||
				(d[i].status == LINK_BARRIER) != barrier ||
				(d[i].hdr.type == FRAME_BARRIER_ACK) != barrier)
				abort();
			if (barrier)
				w->barrier = FRAMES;
		}
}

static void say(struct wire *w, uint8_t buf[FRAME_HDR_BYTES + SEAL_TAG_BYTES], bool wrong)
{
	size_t bytes = FRAME_HDR_BYTES;

	if (w->seal != NULL) {
		struct seal_text text = {.number = w->sealed++,
			.aad = buf,
			.aad_bytes = FRAME_HDR_BYTES,
			.out = buf + FRAME_HDR_BYTES,
			.tag = buf + FRAME_HDR_BYTES};

		if (seal_seal(w->seal, &text, 1) != 1)
			abort();
		bytes += SEAL_TAG_BYTES;
	}
	buf[bytes - 1] ^= wrong;
	if (send(w->peer, buf, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return; // the link is broken, and says so
}

// Returns how many bytes it took.
static size_t answer(struct wire *w, const uint8_t *at, size_t left)
{
	static const uint8_t types[] = {
		FRAME_ACK, FRAME_TORN, FRAME_BARRIER_ACK, FRAME_BARRIER_ACK};
	uint8_t buf[FRAME_HDR_BYTES + SEAL_TAG_BYTES] = {0}, how = at[0];
	struct frame f = {.type = types[how & 3], .seq = at[1]};
	size_t took = 4;

	if (f.type == FRAME_BARRIER_ACK) {
		f.data = at[2];
		f.hole = at[3];
		f.seq = (how & 3) == 3 ? w->barrier : f.seq;
	}
	if ((how & 16) != 0)
		tx(w, at[2]);
	frame_encode(&f, buf);
	if ((how & 4) != 0 && left >= took + CRC_AT) {
		uint32_t crc;

		memcpy(buf + 3, at + took, CRC_AT - 3);
		took += CRC_AT;
		crc = crc32c(0, buf, CRC_AT);
		for (unsigned i = 0; i < 4; i++)
			buf[CRC_AT + i] = (uint8_t)(crc >> 8 * i);
	}
	say(w, buf, (how & 8) != 0);
	return took;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = data + size;
	struct wire w;

	if (size < 5)
		return 0;
	open_wire(&w, data[0] & 1);
	for (uint8_t i = 0; i < data[0] >> 4; i++)
		tx(&w, 0);
	turn(&w);
	data++;
	for (unsigned n = 0; n < ANSWERS && end - data >= 4 && w.link->error == 0; n++) {
		data += answer(&w, data, (size_t)(end - data));
		turn(&w);
	}
	if (w.link->error != 0 && w.link->why.text[0] == '\0')
		abort();
	w.link->ops->close(w.link);
	close(w.peer);
	seal_free(w.seal);
	return 0;
}
