// SPDX-License-Identifier: BSD-3-Clause
// The tcp link alone: frames of all sizes arrive whole and in order however the bytes come; answers
// are merged and matched; whatever else the peer says ends the link with a sentence.

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "bits.h"
#include "crc.h"
#include "pair.h"

static uint8_t memory[CHUNK_BYTES];

static void open_two(struct link **a, struct link **b)
{
	int fd[2];

	pair_sockets(fd);
	assert_int_equal(link_tcp_open(a, fd[0], true, -1, NULL), 0);
	assert_int_equal(link_tcp_open(b, fd[1], false, -1, NULL), 0);
}

// One end, and a socket in the test's hand.
static int open_one(struct link **l, bool source)
{
	int fd[2];

	pair_sockets(fd);
	assert_int_equal(link_tcp_open(l, fd[0], source, -1, NULL), 0);
	return fd[1];
}

static void poll_until_error(struct link *l)
{
	time_t end = time(NULL) + 20;
	struct link_rx x;

	while (l->error == 0 && time(NULL) < end) {
		l->ops->poll(l);
		l->ops->rx(l, &x, 1);
	}
	assert_int_not_equal(l->error, 0);
	// A broken link stays broken and does no harm.
	assert_int_equal(l->ops->poll(l), -l->error);
	assert_int_equal(l->ops->rx(l, &x, 1), 0);
}

static void answer(struct link *l, uint8_t type, uint64_t seq)
{
	const struct frame f = {.type = type, .seq = seq};

	while (!l->ops->answer(l, &f))
		l->ops->poll(l);
}

static void carries_frames(void **state)
{
	struct seed s = {.state = 4};
	struct link *a, *b;
	unsigned sent = 0, got = 0, placed = 0, torn = 0;
	const unsigned all = 3000;
	time_t end = time(NULL) + 60;

	(void)state;
	seed_fill(&s, memory, sizeof(memory));
	open_two(&a, &b);
	while (placed + torn < all && time(NULL) < end) {
		struct link_done d[7];
		struct link_rx x;
		struct link_tx t;
		unsigned n;

		if (sent < all) {
			struct seed before = s;

			t = pair_frame(&s, memory, sent);
			if (a->ops->tx(a, &t, 1) == 1)
				assert_int_equal(t.hdr.seq, sent++);
			else
				s = before;
		}
		assert_true(a->ops->poll(a) >= 0);
		while (b->ops->rx(b, &x, 1) == 1) {
			assert_int_equal(x.hdr.chunk, got);
			assert_int_equal(x.hdr.seq, got);
			assert_int_equal(
				crc32c(0, x.payload, x.hdr.payload_bytes), x.hdr.payload_crc);
			answer(b, got % 10 == 3 ? FRAME_TORN : FRAME_ACK, got);
			got++;
		}
		assert_true(b->ops->poll(b) >= 0);
		n = a->ops->done(a, d, 7);
		for (unsigned i = 0; i < n; i++) {
			assert_int_equal(d[i].hdr.seq, placed + torn);
			assert_int_equal(
				d[i].status, (placed + torn) % 10 == 3 ? LINK_TORN : LINK_PLACED);
			torn += d[i].status == LINK_TORN;
			placed += d[i].status == LINK_PLACED;
		}
	}
	assert_int_equal(placed + torn, all);
	assert_int_equal(a->sent, all);
	a->ops->close(a);
	poll_until_error(b);
	assert_int_equal(b->error, ESHUTDOWN);
	b->ops->close(b);
}

// A frame that comes byte by byte is returned when it is whole.
static void comes_in_bytes(void **state)
{
	uint8_t wire[FRAME_HDR_BYTES + PAGE_BYTES];
	struct frame f = {.type = FRAME_CHUNK,
		.chunks = 1,
		.data = 1,
		.payload_bytes = PAGE_BYTES,
		.payload_crc = 77};
	struct link *l;
	struct link_rx x;
	int fd = open_one(&l, false);

	(void)state;
	frame_encode(&f, wire);
	memset(wire + FRAME_HDR_BYTES, 9, PAGE_BYTES);
	for (size_t i = 0; i < sizeof(wire); i += i < 70 || i > sizeof(wire) - 5 ? 1 : 64) {
		size_t n = i < 70 || i > sizeof(wire) - 5 ? 1 : 64;

		n = n > sizeof(wire) - i ? sizeof(wire) - i : n;
		assert_int_equal(l->ops->rx(l, &x, 1), 0);
		assert_int_equal(send(fd, wire + i, n, 0), n);
		while (l->rx_bytes < i + n)
			assert_true(l->ops->poll(l) >= 0);
	}
	assert_int_equal(l->ops->rx(l, &x, 1), 1);
	assert_memory_equal(x.payload, wire + FRAME_HDR_BYTES, PAGE_BYTES);
	close(fd);
	poll_until_error(l);
	assert_int_equal(l->error, EPIPE);
	l->ops->close(l);
}

static void send_frame(int fd, struct frame *f)
{
	uint8_t wire[FRAME_HDR_BYTES];

	frame_encode(f, wire);
	assert_int_equal(send(fd, wire, sizeof(wire), 0), sizeof(wire));
}

// What a faulty source sends; each is told by name.
static void bad_frames(void **state)
{
	struct frame bad[] = {
		{.type = FRAME_ZERO, .chunks = 0},           // empty run
		{.type = FRAME_ZERO, .chunks = 1, .seq = 5}, // out of order
		{.type = FRAME_CHUNK, .chunks = 1},          // no masks
		{.type = 77, .chunks = 1},                   // no such type
		{.type = FRAME_CHUNK,
			.chunks = 1,
			.data = 1, // longer than its pages
			.payload_bytes = 8192},
	};
	uint8_t noise[FRAME_HDR_BYTES] = {0x57, 0x47, 1, 1};
	struct link *l;
	int fd;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		fd = open_one(&l, false);
		send_frame(fd, &bad[i]);
		poll_until_error(l);
		assert_int_equal(l->error, EPROTO);
		assert_non_null(strstr(l->why.text, "frame 0 of flow: "));
		l->ops->close(l);
		close(fd);
	}
	fd = open_one(&l, false);
	assert_int_equal(send(fd, noise, sizeof(noise), 0), sizeof(noise));
	poll_until_error(l);
	assert_non_null(strstr(l->why.text, "checksum of the header"));
	l->ops->close(l);
	close(fd);
}

// Answers to what was not sent, or not asked.
static void bad_answers(void **state)
{
	struct frame bad[] = {
		{.type = FRAME_ACK, .seq = 4},         // three were sent, the third a barrier
		{.type = FRAME_ACK, .seq = 3},         // an ACK does not answer a barrier
		{.type = FRAME_TORN, .seq = 2},        // nor is it torn
		{.type = FRAME_BARRIER_ACK, .seq = 1}, // which is no barrier
		{.type = FRAME_BARRIER_ACK, .seq = 3},
		{.type = FRAME_ZERO, .chunks = 1}, // the wrong way
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct link_tx t = {.hdr = {.type = FRAME_ZERO, .chunks = 1}};
		struct link_tx barrier = {.hdr = {.type = FRAME_BARRIER}};
		struct link *l;
		int fd = open_one(&l, true);

		assert_int_equal(l->ops->tx(l, &t, 1), 1);
		assert_int_equal(l->ops->tx(l, &t, 1), 1);
		assert_int_equal(l->ops->tx(l, &barrier, 1), 1);
		while (l->sent < 3)
			assert_true(l->ops->poll(l) >= 0);
		send_frame(fd, &bad[i]);
		poll_until_error(l);
		assert_int_equal(l->error, EPROTO);
		l->ops->close(l);
		close(fd);
	}
}

// Sends a frame, has it answered, and returns what the source then knows of the target's core.
static uint8_t told(struct link *a, struct link *b)
{
	struct link_tx t = {.hdr = {.type = FRAME_ZERO, .chunks = 1}};
	time_t end = time(NULL) + 20;
	struct link_done d;
	struct link_rx x;

	assert_int_equal(a->ops->tx(a, &t, 1), 1);
	while (a->ops->done(a, &d, 1) == 0 && time(NULL) < end) {
		assert_true(a->ops->poll(a) >= 0 && b->ops->poll(b) >= 0);
		if (b->ops->rx(b, &x, 1) == 1)
			answer(b, FRAME_ACK, x.hdr.seq);
	}
	assert_int_equal(d.status, LINK_PLACED);
	return a->peer_busy;
}

static void busy_cores_are_told(void **state)
{
	struct link *a, *b;

	(void)state;
	open_two(&a, &b);
	b->busy = 240;
	assert_int_equal(told(a, b), 0); // not asked for: an older source would refuse the answer
	b->tells_busy = true;
	assert_int_equal(told(a, b), 240);
	b->busy = 7;
	assert_int_equal(told(a, b), 7);
	a->ops->close(a);
	b->ops->close(b);
}

// What the socket has of the stream is told where it is wanted: all that the peer's kernel has not
// got waits, in the socket or for it, or is on its way.
static void tells_what_it_holds(void **state)
{
	struct seed s = {.state = 9};
	struct link *l;
	int fd = open_one(&l, true);
	time_t end = time(NULL) + 60;
	static uint8_t sink[1 << 20];
	uint64_t got = 0, made = 0, told;

	(void)state;
	assert_true(l->ops->poll(l) >= 0);
	assert_false(l->tells_held);
	l->wants_held = true;
	while (l->behind == 0) { // until it is full
		struct link_tx t = pair_frame(&s, memory, 1);

		told = l->held_bytes;
		made += l->ops->tx(l, &t, 1) * (FRAME_HDR_BYTES + t.hdr.payload_bytes);
		assert_true(l->held_bytes > told);
		assert_true(l->ops->poll(l) >= 0);
	}
	assert_true(l->tells_held);
	assert_true(l->held_bytes >= made - l->tx_bytes);
	assert_true(l->told_cycles > 0);
	while ((l->behind > 0 || l->left_bytes < l->tx_bytes) && time(NULL) < end) {
		ssize_t n = recv(fd, sink, sizeof(sink), MSG_DONTWAIT);

		got += n > 0 ? (uint64_t)n : 0;
		assert_true(l->ops->poll(l) >= 0);
		assert_true(l->left_bytes + l->held_bytes <= made);
	}
	assert_int_equal(l->held_bytes, 0);
	assert_int_equal(l->left_bytes, l->tx_bytes);
	assert_true(got <= l->tx_bytes);
	l->ops->close(l);
	close(fd);
}

static void answered_barrier(void **state)
{
	struct frame ack = {.type = FRAME_BARRIER_ACK, .seq = 1, .data = 1, .zero = 42};
	struct link_tx t = {.hdr = {.type = FRAME_ZERO, .chunks = 1}};
	struct link_tx barrier = {.hdr = {.type = FRAME_BARRIER}};
	struct link_done d[4];
	struct link *l;
	int fd = open_one(&l, true);
	unsigned n;

	(void)state;
	assert_int_equal(l->ops->tx(l, &t, 1), 1);
	assert_int_equal(l->ops->tx(l, &barrier, 1), 1);
	send_frame(fd, &ack);
	do {
		assert_true(l->ops->poll(l) >= 0);
		n = l->ops->done(l, d, 4);
	} while (n == 0);
	assert_int_equal(n, 2);
	assert_int_equal(d[0].status, LINK_PLACED);
	assert_int_equal(d[1].status, LINK_BARRIER);
	assert_int_equal(d[1].hdr.zero, 42);
	l->ops->close(l);
	close(fd);
}

static void gives_a_reason(void **state)
{
	struct frame bye = {.type = FRAME_BYE, .data = ENOSPC};
	struct link *l;
	int fd = open_one(&l, true);

	(void)state;
	send_frame(fd, &bye);
	poll_until_error(l);
	assert_non_null(strstr(l->why.text, "No space left"));
	l->ops->close(l);
	close(fd);
	link_tcp.close(NULL);
	assert_true(link_tcp_open(&l, open("/dev/null", O_RDWR), true, -1, NULL) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(carries_frames),
		cmocka_unit_test(comes_in_bytes),
		cmocka_unit_test(bad_frames),
		cmocka_unit_test(bad_answers),
		cmocka_unit_test(busy_cores_are_told),
		cmocka_unit_test(tells_what_it_holds),
		cmocka_unit_test(answered_barrier),
		cmocka_unit_test(gives_a_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
