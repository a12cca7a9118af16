// SPDX-License-Identifier: BSD-3-Clause
// Both ends of a reliable flow, hand in hand: what their simulations are too short for. Counts of
// 16 bits go round while frames are refused, and what was delayed comes after that.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"
#include "rel_recv.h"
#include "rel_send.h"

#define TURN_NS     (50 * NS_PER_US)
#define MARKS_ROUND (UINT32_C(1) << 16)

static struct rel_send source;
static struct rel_recv target;
static void *send_mem, *recv_mem;
static uint64_t now;

struct kept {
	uint8_t bytes[PACKET_ACK_MOST];
	size_t len;
};

static int begin(void **state)
{
	struct rel_config c, back;

	(void)state;
	rel_config_init(&c);
	c.token_out = 1;
	c.token_in = 2;
	c.frames = 64;
	c.packets = 4096;
	c.mtu_most = c.mtu_base;
	c.overhead_bytes = 28;
	c.first_number = 1;
	back = c;
	back.token_out = c.token_in;
	back.token_in = c.token_out;
	now = NS_PER_S;
	send_mem = aligned_alloc(64, (rel_send_bytes(&c) + 63) / 64 * 64);
	recv_mem = aligned_alloc(64, (rel_recv_bytes(&back) + 63) / 64 * 64);
	assert_non_null(send_mem);
	assert_non_null(recv_mem);
	memset(send_mem, 0, rel_send_bytes(&c));
	memset(recv_mem, 0, rel_recv_bytes(&back));
	rel_send_init(&source, &c, send_mem, now);
	rel_recv_init(&target, &back, recv_mem, now);
	return 0;
}

static int end(void **state)
{
	(void)state;
	free(send_mem);
	free(recv_mem);
	return 0;
}

// What becomes of a frame at the target: of five one is placed.
static enum rel_answer fate(uint64_t seq)
{
	if (seq % 5 == 0)
		return REL_PLACED;
	return seq % 5 < 3 ? REL_TORN : REL_LOST;
}

static void target_turn(struct kept *ack)
{
	const struct frame *f;
	struct rel_out o;
	uint64_t pos;

	while (rel_recv_take(&target, &f, &pos))
		assert_true(rel_recv_answer(&target, now, f->seq, fate(f->seq)));
	now += target.c.cfg.ack_delay_ns;
	assert_true(rel_recv_next_packet(&target, now, &o));
	packet_seal(o.hdr, o.hdr_bytes, NULL, 0);
	memcpy(ack->bytes, o.hdr, o.hdr_bytes);
	ack->len = o.hdr_bytes;
}

// A frame goes there, and its answer is made.
static void send_one(struct kept *ack)
{
	struct frame f = {.type = FRAME_ZERO, .chunks = 1};
	struct rel_part part;
	struct rel_out o;

	now += TURN_NS;
	assert_true(rel_send_frame(&source, &f, now));
	rel_send_timer(&source, now);
	while (rel_send_next_packet(&source, now, &o)) {
		packet_seal(o.hdr, o.hdr_bytes, NULL, 0);
		assert_int_equal(o.bytes + o.pad_bytes, 0);
		rel_recv_packet(&target, now, o.hdr, o.hdr_bytes, false, &part);
	}
	target_turn(ack);
}

static void hear(const struct kept *ack)
{
	rel_send_packet_in(&source, now, ack->bytes, ack->len);
}

static void check_done(uint64_t seq)
{
	static const uint8_t told[] = {[REL_PLACED] = REL_FRAME_PLACED,
		[REL_TORN] = REL_FRAME_TORN,
		[REL_LOST] = REL_FRAME_LOST};
	struct rel_done d;

	assert_true(rel_send_take(&source, &d));
	assert_int_equal(d.hdr.seq, seq);
	assert_int_equal(d.state, told[fate(seq)]);
	assert_false(rel_send_take(&source, &d));
}

// More frames are refused than their marks have numbers.
static void marks_go_round(void **state)
{
	struct kept ack;

	(void)state;
	for (uint64_t seq = 0; seq < MARKS_ROUND * 5 / 4 + 100; seq++) {
		send_one(&ack);
		hear(&ack);
		check_done(seq);
	}
	assert_true(source.marks_known < 200);
	assert_int_equal(source.c.stats.bad + target.c.stats.bad, 0);
}

// An answer that was delayed for half a round looks as if it were new.
static void late_marks_are_old(void **state)
{
	struct kept ack, late = {.len = 0};
	const uint64_t again = MARKS_ROUND * 5 / 8 + 1000;

	(void)state;
	for (uint64_t seq = 0; seq < again + 100; seq++) {
		send_one(&ack);
		if (seq == 101)
			late = ack;
		if (seq == again)
			hear(&late);
		hear(&ack);
		check_done(seq);
	}
}

// An answer is overtaken by one that knows more: nothing of either is lost.
static void overtaken(void **state)
{
	struct kept first, second;

	(void)state;
	for (uint64_t seq = 0; seq < 1000; seq += 2) {
		struct rel_done d;

		send_one(&first);
		send_one(&second);
		hear(&second);
		hear(&first);
		for (unsigned i = 0; i < 2; i++) {
			assert_true(rel_send_take(&source, &d));
			assert_int_equal(
				d.state == REL_FRAME_PLACED, fate(d.hdr.seq) == REL_PLACED);
		}
		assert_false(rel_send_take(&source, &d));
	}
}

// A core that was away longer than its count goes: what it finds is no sign of the network.
static void away_for_long(void **state)
{
	const uint64_t away = MARKS_ROUND * (uint64_t)PACKET_AWAY_NS + NS_PER_MS;
	uint64_t before, window;
	struct kept ack;

	(void)state;
	for (uint64_t seq = 0; seq < 200; seq++) {
		rel_look(&source.c, now);
		rel_look(&target.c, now);
		send_one(&ack);
		hear(&ack);
		check_done(seq);
	}
	before = source.cc.srtt_ns;
	window = source.cc.window_bytes;
	send_one(&ack);
	now += away;
	rel_look(&source.c, now);
	rel_look(&target.c, now);
	hear(&ack);
	check_done(200);
	assert_int_equal(source.c.error, 0);
	assert_true(source.cc.srtt_ns <= before);
	assert_true(source.cc.window_bytes >= window);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(marks_go_round, begin, end),
		cmocka_unit_test_setup_teardown(late_marks_are_old, begin, end),
		cmocka_unit_test_setup_teardown(overtaken, begin, end),
		cmocka_unit_test_setup_teardown(away_for_long, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
