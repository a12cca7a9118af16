// SPDX-License-Identifier: BSD-3-Clause
// The rdma link over a device that is none: frames of all sizes arrive whole and in order; answers
// are merged and matched; a receiver is never found without a buffer; whole memories move, sealed
// or not, however many requests the device takes at a time.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "bits.h"
#include "crc.h"
#include "fake_verbs.h"
#include "pair.h"

static uint8_t memory[CHUNK_BYTES];

static void answer(struct link *l, uint8_t type, uint64_t seq)
{
	const struct frame f = {.type = type, .seq = seq};

	while (!l->ops->answer(l, &f))
		assert_true(l->ops->poll(l) >= 0);
}

// Moves frames one by one until the source has all answers.
static void carry(struct fake_end e[2], struct link *l[2], unsigned all)
{
	struct seed s = {.state = 4};
	unsigned sent = 0, got = 0, done = 0;
	time_t end = time(NULL) + 60;

	seed_fill(&s, memory, sizeof(memory));
	l[1]->tells_busy = true;
	l[1]->busy = 77;
	while (done < all && time(NULL) < end) {
		struct link_done d[7];
		struct link_rx x;
		unsigned n;

		while (sent < all) {
			struct seed before = s;
			struct link_tx t = pair_frame(&s, memory, sent);

			if (l[0]->ops->tx(l[0], &t, 1) == 0) {
				s = before;
				break;
			}
			assert_int_equal(t.hdr.seq, sent++);
		}
		assert_true(l[0]->ops->poll(l[0]) >= 0);
		while (l[1]->ops->rx(l[1], &x, 1) == 1) {
			assert_int_equal(x.hdr.chunk, got);
			assert_int_equal(x.hdr.seq, got);
			assert_int_equal(
				crc32c(0, x.payload, x.hdr.payload_bytes), x.hdr.payload_crc);
			answer(l[1], got % 10 == 3 ? FRAME_TORN : FRAME_ACK, got);
			got++;
		}
		assert_true(l[1]->ops->poll(l[1]) >= 0);
		n = l[0]->ops->done(l[0], d, 7);
		for (unsigned i = 0; i < n; i++, done++) {
			assert_int_equal(d[i].hdr.seq, done);
			assert_int_equal(d[i].status, done % 10 == 3 ? LINK_TORN : LINK_PLACED);
		}
	}
	assert_int_equal(done, all);
	assert_int_equal(got, all);
	assert_int_equal(l[0]->peer_busy, 77);
	assert_int_equal(e[0].rnr + e[1].rnr, 0);
}

static void finish(struct fake_end e[2], struct link *l[2])
{
	for (unsigned i = 0; i < 2; i++)
		l[i]->ops->close(l[i]);
	for (unsigned i = 0; i < 2; i++)
		fake_free(&e[i]);
}

static void carries_frames(void **state)
{
	struct fake_end e[2];
	struct link *l[2];

	(void)state;
	fake_links(e, l, RDMA_MESSAGE_BYTES);
	carry(e, l, 3000);
	// One doorbell for many, and few completions asked for.
	assert_true(e[0].doorbells < e[0].sends);
	assert_true(e[0].signalled < e[0].sends);
	finish(e, l);
}

static void carries_without_inline(void **state)
{
	struct fake_end e[2];
	struct link *l[2];

	(void)state;
	fake_links(e, l, 0);
	carry(e, l, 1000);
	finish(e, l);
}

// A device that does one thing at a time, and takes three requests of a chain.
static void carries_slowly(void **state)
{
	struct fake_end e[2];
	struct link *l[2];

	(void)state;
	fake_links(e, l, RDMA_MESSAGE_BYTES);
	for (unsigned i = 0; i < 2; i++) {
		e[i].moves = 1;
		e[i].post_most = 3;
	}
	carry(e, l, 1000);
	finish(e, l);
}

static void carries_sealed(void **state)
{
	struct fake_end e[2];
	struct link *l[2];

	(void)state;
	fake_links(e, l, RDMA_MESSAGE_BYTES);
	fake_seal(l, 0);
	carry(e, l, 1000);
	finish(e, l);
}

// The source is not told of the barrier before its own queue pair let go of all.
static void barrier_is_last(void **state)
{
	struct link_tx t = {.hdr = {.type = FRAME_BARRIER, .data = 1, .zero = 2}};
	struct frame f = {.type = FRAME_BARRIER_ACK, .data = 1, .zero = 2};
	struct link_done d;
	struct fake_end e[2];
	struct link *l[2];
	struct link_rx x;
	struct ibv_wc *held;

	(void)state;
	fake_links(e, l, RDMA_MESSAGE_BYTES);
	assert_int_equal(l[0]->ops->tx(l[0], &t, 1), 1);
	assert_true(l[0]->ops->poll(l[0]) >= 0);
	assert_true(l[1]->ops->poll(l[1]) >= 0);
	assert_int_equal(l[1]->ops->rx(l[1], &x, 1), 1);
	assert_true(l[1]->ops->answer(l[1], &f));
	assert_true(l[1]->ops->poll(l[1]) >= 0);
	// Its own completion is held back.
	assert_int_equal(e[0].wc_tail - e[0].wc_head, 1);
	held = &e[0].wc[e[0].wc_head];
	assert_int_equal(held->wr_id, 0);
	e[0].wc_head++;
	assert_true(l[0]->ops->poll(l[0]) >= 0);
	assert_int_equal(l[0]->ops->done(l[0], &d, 1), 0);
	e[0].wc[e[0].wc_tail++] = *held;
	assert_true(l[0]->ops->poll(l[0]) >= 0);
	assert_int_equal(l[0]->ops->done(l[0], &d, 1), 1);
	assert_int_equal(d.status, LINK_BARRIER);
	finish(e, l);
}

// Whole memories, over flows of both kinds.
static void moves(const struct codec_ops *codec, bool sealed)
{
	const uint64_t sizes[] = {1000, 64, 1, 3001};
	struct fake_end e[PAIR_FLOWS][2];
	struct seed s = {.state = 7};
	struct link *l[2];
	struct pair p;

	pair_open(&p, sizes, 4, codec, 1);
	for (unsigned i = 0; i < PAIR_FLOWS; i++) {
		fake_links(e[i], l, RDMA_MESSAGE_BYTES);
		if (sealed)
			fake_seal(l, 0);
		assert_int_equal(flow_send_new(&p.send[i], &p.send_job, l[0], 1, -1, NULL), 0);
		assert_int_equal(flow_recv_new(&p.recv[i], &p.recv_job, l[1], 2, -1, NULL), 0);
	}
	for (uint32_t pass = 0; pass < 3; pass++) {
		pair_fill(&p, &s);
		pair_populated(&p.from, p.dirty.set);
		pair_publish(&p, pass);
		pair_run(&p, pass);
		pair_finish_pass(&p);
		pair_compare(&p);
	}
	for (unsigned i = 0; i < PAIR_FLOWS; i++)
		assert_int_equal(e[i][0].rnr + e[i][1].rnr, 0);
	pair_close(&p);
	for (unsigned i = 0; i < PAIR_FLOWS; i++) {
		fake_free(&e[i][0]);
		fake_free(&e[i][1]);
	}
}

static void moves_raw(void **state)
{
	(void)state;
	moves(NULL, false);
}

static void moves_deflated(void **state)
{
	(void)state;
	moves(&codec_isal, false);
}

static void moves_sealed(void **state)
{
	(void)state;
	moves(&codec_isal, true);
}

static uint8_t *no_place(void *arg, const struct frame *f)
{
	(void)arg;
	(void)f;
	return NULL;
}

static bool not_so(void *arg, const struct frame *f)
{
	(void)arg;
	(void)f;
	return false;
}

// Pages that came where the flow says they may not end the link.
static void direct_is_asked_for(void **state)
{
	const struct link_sink sink = {no_place, not_so, NULL};
	struct link_rdma_key keys[REGION_MAX] = {{0, 0, true}};
	struct seed s = {.state = 9};
	struct link_tx t = pair_frame(&s, memory, 3);
	struct fake_end e[2];
	struct link *l[2];
	struct link_rx x;

	(void)state;
	while (t.hdr.payload_bytes == 0)
		t = pair_frame(&s, memory, 0);
	t.hdr.chunk = 0;
	for (unsigned asked = 0; asked < 2; asked++) {
		struct ibv_mr *mr;

		fake_links(e, l, RDMA_MESSAGE_BYTES);
		mr = verbs_fake.reg_mr(&e[1].pd, memory, sizeof(memory), IBV_ACCESS_REMOTE_WRITE);
		keys[0] = (struct link_rdma_key){(uintptr_t)memory, mr->rkey, true};
		link_rdma_direct(l[0], keys);
		if (asked)
			link_rdma_direct(l[1], NULL);
		l[1]->sink = &sink;
		assert_int_equal(l[0]->ops->tx(l[0], &t, 1), 1);
		assert_true(l[0]->ops->poll(l[0]) >= 0);
		assert_true(l[1]->ops->poll(l[1]) >= 0);
		assert_int_equal(l[1]->ops->rx(l[1], &x, 1), 0);
		assert_int_equal(l[1]->error, EPROTO);
		finish(e, l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(carries_frames),
		cmocka_unit_test(carries_without_inline),
		cmocka_unit_test(carries_slowly),
		cmocka_unit_test(carries_sealed),
		cmocka_unit_test(barrier_is_last),
		cmocka_unit_test(moves_raw),
		cmocka_unit_test(moves_deflated),
		cmocka_unit_test(moves_sealed),
		cmocka_unit_test(direct_is_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
