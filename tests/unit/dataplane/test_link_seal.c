// SPDX-License-Identifier: BSD-3-Clause
// The sealed tcp link, with an attacker between its ends: nothing of a page is to be seen on the
// wire; what is changed, repeated, left out, moved or sent back ends the link before a byte of it
// is handed on.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "bits.h"
#include "pair.h"

#define FRAMES     4u
#define WIRE_BYTES (1u << 20)

static uint8_t memory[CHUNK_BYTES];
static uint8_t wire[WIRE_BYTES];

// Source and target, and the sockets at which the attacker sits.
struct between {
	struct link *source, *target;
	int from_source, to_target;
	size_t frame[FRAMES + 1]; // where each begins in wire
};

static void open_all(struct between *b, const struct seal_ops *ops)
{
	int fd[2];

	pair_sockets(fd);
	assert_int_equal(link_tcp_open(&b->source, fd[0], true, -1, NULL), 0);
	b->from_source = fd[1];
	pair_sockets(fd);
	assert_int_equal(link_tcp_open(&b->target, fd[0], false, -1, NULL), 0);
	b->to_target = fd[1];
	pair_seal_links(b->source, b->target, ops);
}

static void close_all(struct between *b)
{
	b->source->ops->close(b->source);
	b->target->ops->close(b->target);
	close(b->from_source);
	close(b->to_target);
}

// Two frames with pages, one of a run, a barrier; all that the source puts on the wire.
static void record(struct between *b)
{
	struct link_tx t[FRAMES] = {
		{.hdr = {.type = FRAME_CHUNK,
			 .chunks = 1,
			 .data = 0x3,
			 .payload_bytes = 2 * PAGE_BYTES},
			.nseg = 1,
			.seg = {{memory, 2 * PAGE_BYTES}}},
		{.hdr = {.type = FRAME_CHUNK,
			 .chunk = 1,
			 .chunks = 1,
			 .data = 0x5,
			 .payload_bytes = 2 * PAGE_BYTES},
			.nseg = 2,
			.seg = {{memory + PAGE_BYTES, PAGE_BYTES}, {memory, PAGE_BYTES}}},
		{.hdr = {.type = FRAME_ZERO, .chunk = 2, .chunks = 5}},
		{.hdr = {.type = FRAME_BARRIER, .data = 3}},
	};
	size_t got = 0;

	for (unsigned i = 0; i < FRAMES; i++) {
		b->frame[i + 1] =
			b->frame[i] + FRAME_HDR_BYTES + t[i].hdr.payload_bytes + SEAL_TAG_BYTES;
		assert_int_equal(b->source->ops->tx(b->source, &t[i], 1), 1);
	}
	while (got < b->frame[FRAMES]) {
		ssize_t n;

		assert_true(b->source->ops->poll(b->source) >= 0);
		n = recv(b->from_source, wire + got, WIRE_BYTES - got, MSG_DONTWAIT);
		got += n > 0 ? (size_t)n : 0;
	}
	assert_int_equal(got, b->frame[FRAMES]);
}

// Gives bytes to an end; how many frames it hands on before it is broken, or has no more.
static unsigned give(struct link *l, int fd, const uint8_t *bytes, size_t n)
{
	unsigned frames = 0;
	struct link_rx x;

	for (size_t at = 0; at < n && l->error == 0;) {
		size_t piece = n - at < 4096 ? n - at : 4096;

		assert_int_equal(send(fd, bytes + at, piece, MSG_NOSIGNAL), (ssize_t)piece);
		at += piece;
		for (int i = 0; i < 1000 && l->error == 0 && l->rx_bytes < at; i++)
			l->ops->poll(l);
		while (l->ops->rx(l, &x, 1) == 1) {
			if (x.hdr.type == FRAME_CHUNK)
				assert_memory_equal(x.payload + (x.hdr.chunk == 1) * PAGE_BYTES,
					memory, PAGE_BYTES);
			frames++;
		}
	}
	return frames;
}

static void each_row(void (*fn)(const struct seal_ops *ops))
{
	for (const struct seal_ops *const *o = seal_table; *o != NULL; o++)
		fn(*o);
}

static void is_whole(const struct seal_ops *ops)
{
	struct between b = {0};

	open_all(&b, ops);
	record(&b);
	assert_null(memmem(wire, b.frame[FRAMES], memory, 16));
	assert_null(memmem(wire, b.frame[FRAMES], memory + 2000, 16));
	assert_int_equal(give(b.target, b.to_target, wire, b.frame[FRAMES]), FRAMES);
	assert_int_equal(b.target->error, 0);
	close_all(&b);
}

static void try_flip(const struct seal_ops *ops, size_t at, unsigned bit)
{
	struct between b = {0};
	unsigned whole = 0;

	open_all(&b, ops);
	record(&b);
	while (b.frame[whole + 1] <= at)
		whole++;
	wire[at] ^= (uint8_t)(1u << bit);
	assert_int_equal(give(b.target, b.to_target, wire, b.frame[FRAMES]), whole);
	// A length that grew may wait for more than comes; then the end of the stream ends it.
	close(b.to_target);
	b.to_target = dup(0);
	for (int i = 0; i < 1000 && b.target->error == 0; i++) {
		struct link_rx x;

		b.target->ops->poll(b.target);
		assert_int_equal(b.target->ops->rx(b.target, &x, 1), 0);
	}
	assert_int_not_equal(b.target->error, 0);
	close_all(&b);
}

static void flips(const struct seal_ops *ops)
{
	struct seed s = {.state = 9};
	struct between b = {0};

	open_all(&b, ops);
	record(&b);
	close_all(&b);
	for (size_t at = 0; at < FRAME_HDR_BYTES; at++)
		try_flip(ops, at, (unsigned)seed_below(&s, 8));
	for (unsigned i = 0; i < 100; i++)
		try_flip(ops, seed_below(&s, b.frame[FRAMES]), (unsigned)seed_below(&s, 8));
	for (size_t at = 1; at <= SEAL_TAG_BYTES; at++)
		try_flip(ops, b.frame[3] - at, (unsigned)seed_below(&s, 8));
}

// The header's own checksum is made right again: only the seal can tell.
static void edited(const struct seal_ops *ops)
{
	struct between b = {0};
	struct frame f;

	open_all(&b, ops);
	record(&b);
	assert_int_equal(frame_decode(&f, wire), 0);
	f.chunk = 7;
	frame_encode(&f, wire);
	assert_int_equal(give(b.target, b.to_target, wire, b.frame[FRAMES]), 0);
	assert_int_equal(b.target->error, EBADMSG);
	assert_non_null(strstr(b.target->why.text, "packet 0 of flow: its seal does not match"));
	close_all(&b);
}

// Frames of the recording, by index, given in another order.
static void try_order(const struct seal_ops *ops, const int *order, unsigned n, unsigned good)
{
	struct between b = {0};
	unsigned got = 0;

	open_all(&b, ops);
	record(&b);
	for (unsigned i = 0; i < n && b.target->error == 0; i++) {
		size_t from = b.frame[order[i]], to = b.frame[order[i] + 1];
		uint64_t before = b.target->rx_bytes;

		b.target->rx_bytes = 0;
		got += give(b.target, b.to_target, wire + from, to - from);
		b.target->rx_bytes += before;
	}
	assert_int_equal(got, good);
	assert_int_equal(b.target->error, EBADMSG);
	close_all(&b);
}

static void orders(const struct seal_ops *ops)
{
	try_order(ops, (int[]){0, 0}, 2, 1);    // replayed
	try_order(ops, (int[]){0, 2}, 2, 1);    // one is left out
	try_order(ops, (int[]){1, 0}, 2, 0);    // moved
	try_order(ops, (int[]){0, 1, 0}, 3, 2); // replayed later
}

// What the source sent comes back to it; and what it sent in an earlier flow comes to a new one.
static void reflected(const struct seal_ops *ops)
{
	const struct seal_secret other = {.key = {9}, .iv = {9}};
	struct between b = {0};
	struct link *l;
	int fd[2];

	open_all(&b, ops);
	record(&b);
	assert_int_equal(
		give(b.source, b.from_source, wire + b.frame[2], b.frame[4] - b.frame[2]), 0);
	assert_int_equal(b.source->error, EBADMSG);
	pair_sockets(fd);
	assert_int_equal(link_tcp_open(&l, fd[0], false, -1, NULL), 0);
	assert_int_equal(link_tcp_seal(l, ops, &other, &other, -1, NULL), 0);
	assert_int_equal(give(l, fd[1], wire, b.frame[FRAMES]), 0);
	assert_int_equal(l->error, EBADMSG);
	l->ops->close(l);
	close(fd[1]);
	close_all(&b);
}

// Frames and answers in plain text are none.
static void plain(const struct seal_ops *ops)
{
	struct frame f = {.type = FRAME_ZERO, .chunks = 1};
	struct frame ack = {.type = FRAME_ACK, .seq = 1}, bye = {.type = FRAME_BYE};
	uint8_t buf[FRAME_HDR_BYTES + SEAL_TAG_BYTES] = {0};
	struct between b = {0};

	open_all(&b, ops);
	record(&b);
	frame_encode(&f, buf);
	assert_int_equal(give(b.target, b.to_target, buf, sizeof(buf)), 0);
	assert_int_equal(b.target->error, EBADMSG);
	frame_encode(&ack, buf);
	give(b.source, b.from_source, buf, sizeof(buf));
	assert_int_equal(b.source->error, EBADMSG);
	close_all(&b);
	open_all(&b, ops);
	frame_encode(&bye, buf);
	give(b.source, b.from_source, buf, sizeof(buf));
	assert_int_equal(b.source->error, EBADMSG);
	close_all(&b);
}

#define TEST(fn)                                                                                   \
	static void test_##fn(void **state)                                                        \
	{                                                                                          \
		(void)state;                                                                       \
		each_row(fn);                                                                      \
	}
TEST(is_whole)
TEST(flips)
TEST(edited)
TEST(orders)
TEST(reflected)
TEST(plain)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_is_whole),
		cmocka_unit_test(test_flips),
		cmocka_unit_test(test_edited),
		cmocka_unit_test(test_orders),
		cmocka_unit_test(test_reflected),
		cmocka_unit_test(test_plain),
	};
	struct seed s = {.state = 5};

	seed_fill(&s, memory, sizeof(memory));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
