// SPDX-License-Identifier: BSD-3-Clause
// Flows over tcp: a whole memory moves, holes and zeros keep what they are, counters add up, the
// pace is kept, and whatever a bad peer does ends its own flow with a sentence.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <fcntl.h>

#include "bits.h"
#include "clock.h"
#include "pair.h"
#include "send.h"

static const uint64_t sizes[] = {1000, 64, 1, 3001};
#define NSIZES 4u

static void fill_set(struct pair *p)
{
	pair_populated(&p->from, p->dirty.set);
}

static uint64_t both(struct flow **f, enum stats_id i)
{
	return stats_get(&f[0]->stats, i) + stats_get(&f[1]->stats, i);
}

static void move(const struct codec_ops *codec, int level)
{
	struct seed s = {.state = 7};
	struct pair p;
	uint64_t pages;

	pair_open(&p, sizes, NSIZES, codec, level);
	pair_flows(&p);
	pair_fill(&p, &s);
	fill_set(&p);
	pages = dirty_count(&p.dirty);
	pair_publish(&p, 0);
	pair_run(&p, 0);
	pair_finish_pass(&p);
	pair_compare(&p);
	assert_int_equal(dirty_count(&p.dirty), 0);
	for (unsigned i = 0; i < 2; i++) {
		struct flow **f = i == 0 ? p.send : p.recv;

		assert_int_equal(both(f, STAT_pages_data) + both(f, STAT_pages_zero), pages);
		assert_int_equal(both(f, STAT_bytes_pages), pages << PAGE_SHIFT);
		assert_int_equal(both(f, STAT_bytes_raw), both(f, STAT_pages_data) << PAGE_SHIFT);
		assert_int_equal(both(f, STAT_pages_torn) + both(f, STAT_pages_lost), 0);
	}
	assert_int_equal(both(p.send, STAT_frames), both(p.recv, STAT_frames));
	if (codec != NULL && codec->encode != NULL)
		assert_true(both(p.send, STAT_bytes_encoded) < both(p.send, STAT_bytes_raw));
	pair_close(&p);
}

static void moves_raw(void **state)
{
	(void)state;
	move(NULL, 0);
	move(&codec_raw, 0);
}

static void moves_encoded(void **state)
{
	(void)state;
	move(&codec_isal, 0);
	move(&codec_isal, 1);
	move(&codec_lz4, 0);
	move(&codec_zstd, 1);
	move(&codec_auto, 0);
}

// Later passes: content over content, zeros over content, content over holes, new holes.
static void later_passes(void **state)
{
	struct seed s = {.state = 11};
	struct pair p;
	uint64_t *pop;

	(void)state;
	pair_open(&p, sizes, NSIZES, &codec_isal, 1);
	pop = malloc(p.from.nchunks * sizeof(*pop));
	pair_flows(&p);
	for (uint32_t pass = 0; pass < 6; pass++) {
		// Punch a part, write a part: all of it is dirty.
		for (unsigned i = 0; i < p.from.n; i++) {
			off_t page = (off_t)seed_below(&s, p.from.r[i].bytes >> PAGE_SHIFT);

			fallocate(p.from.r[i].fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				page << PAGE_SHIFT, 300 << PAGE_SHIFT);
		}
		pair_fill(&p, &s);
		pair_populated(&p.from, pop);
		for (uint64_t c = 0; c < p.from.nchunks; c++) {
			p.dirty.set[c] = pop[c];
			p.dirty.hole[c] = p.dirty.held[c] & ~pop[c];
		}
		pair_publish(&p, pass);
		pair_run(&p, pass);
		pair_finish_pass(&p);
		assert_int_equal(dirty_count(&p.dirty), 0);
		pair_compare(&p);
	}
	free(pop);
	pair_close(&p);
}

// A long run of zeros costs a few headers.
static void zeros_are_cheap(void **state)
{
	static const uint64_t size[] = {16384};
	struct pair p;

	(void)state;
	pair_open(&p, size, 1, NULL, 0);
	pair_flows(&p);
	memset(p.from.r[0].base, 0, p.from.r[0].bytes);
	fill_set(&p);
	pair_publish(&p, 0);
	pair_run(&p, 0);
	assert_int_equal(both(p.send, STAT_pages_zero), 16384);
	assert_true(both(p.send, STAT_bytes_wire) < 20 * FRAME_HDR_BYTES * PAIR_FLOWS);
	pair_finish_pass(&p);
	pair_compare(&p);
	pair_close(&p);
}

static void pace_is_kept(void **state)
{
	static const uint64_t size[] = {2560};
	struct seed s = {.state = 3};
	struct pair p;
	uint64_t t0;

	(void)state;
	pair_open(&p, size, 1, NULL, 0);
	pair_flows(&p);
	seed_fill(&s, p.from.r[0].base, p.from.r[0].bytes);
	fill_set(&p);
	atomic_store(&p.send_job.bytes_per_s, 20 << 20);
	t0 = clock_ns();
	pair_publish(&p, 0);
	pair_run(&p, 0);
	// 10 MiB over two flows of 20 MiB/s, less a burst and a frame each.
	assert_true(clock_ns() - t0 > 150 * NS_PER_MS);
	pair_close(&p);
}

static void sums_that_disagree(void **state)
{
	struct seed s = {.state = 5};
	struct pair p;

	(void)state;
	pair_open(&p, sizes, NSIZES, NULL, 0);
	pair_flows(&p);
	pair_fill(&p, &s);
	fill_set(&p);
	// The target takes every chunk of the pass for placed, so it places none.
	for (uint64_t c = 0; c < p.to.nchunks; c++)
		atomic_store(&p.recv_job.placed_pass[c], 1);
	pair_publish(&p, 0);
	for (int i = 0; i < 1000000 && atomic_load(&p.send[0]->error) == 0; i++)
		for (unsigned k = 0; k < PAIR_FLOWS; k++)
			flow_poll(p.send[k]), flow_poll(p.recv[k]);
	assert_int_equal(atomic_load(&p.send[0]->error), EPROTO);
	assert_non_null(strstr(p.send[0]->why.text, "do not agree"));
	pair_close(&p);
}

static void stop_claims_no_more(void **state)
{
	struct seed s = {.state = 5};
	struct pair p;

	(void)state;
	pair_open(&p, sizes, NSIZES, NULL, 0);
	pair_flows(&p);
	pair_fill(&p, &s);
	fill_set(&p);
	atomic_store(&p.send[0]->stop, true);
	atomic_store(&p.send[1]->stop, true);
	pair_publish(&p, 0);
	for (int i = 0; i < 100; i++)
		flow_poll(p.send[0]), flow_poll(p.send[1]);
	assert_int_equal(both(p.send, STAT_frames), 0);
	pair_close(&p);
}

// All of it once more, sealed by each row.
static void sealed(void **state)
{
	for (const struct seal_ops *const *o = seal_table; *o != NULL; o++) {
		pair_seal = *o;
		moves_raw(state);
		moves_encoded(state);
		later_passes(state);
		sums_that_disagree(state);
	}
	pair_seal = NULL;
}

// Somebody between two ends, who keeps what goes by.
struct tap {
	int from, to;
	uint8_t *seen;
	size_t have, sent, most;
};

static void tap_turn(struct tap *t)
{
	ssize_t n = recv(t->from, t->seen + t->have, t->most - t->have, MSG_DONTWAIT);

	t->have += n > 0 ? (size_t)n : 0;
	n = send(t->to, t->seen + t->sent, t->have - t->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
	t->sent += n > 0 ? (size_t)n : 0;
}

#define CANARY UINT64_C(0xc0ffeec0de15dead)

static void fill_canary(uint8_t *p, size_t bytes)
{
	const uint64_t word = CANARY;

	for (size_t i = 0; p != NULL && i < bytes; i += sizeof(word))
		memcpy(p + i, &word, sizeof(word));
}

static void tapped_flows(struct pair *p, struct tap *t)
{
	for (unsigned i = 0; i < PAIR_FLOWS; i++) {
		int near[2], far[2];
		struct link *a, *b;
		struct send *s;

		pair_sockets(near);
		pair_sockets(far);
		t[2 * i] = (struct tap){near[1], far[1], malloc(32u << 20), 0, 0, 32u << 20};
		t[2 * i + 1] = (struct tap){far[1], near[1], malloc(1u << 20), 0, 0, 1u << 20};
		assert_int_equal(link_tcp_open(&a, near[0], true, -1, NULL), 0);
		assert_int_equal(link_tcp_open(&b, far[0], false, -1, NULL), 0);
		assert_int_equal(flow_send_new(&p->send[i], &p->send_job, a, 1, -1, NULL), 0);
		assert_int_equal(flow_recv_new(&p->recv[i], &p->recv_job, b, 2, -1, NULL), 0);
		s = p->send[i]->priv;
		fill_canary(s->pack.stage, CHUNK_BYTES);
		fill_canary(s->pack.slots, s->pack.nslots * CHUNK_BYTES);
	}
}

// What lay in the memory that frames are made in, and pages that nobody asked for, stay here.
static void nothing_else_goes(const struct codec_ops *codec, int level)
{
	const uint64_t canary = CANARY;
	struct tap t[2 * PAIR_FLOWS];
	struct seed s = {.state = 13};
	struct pair p;
	bool all = false;

	pair_open(&p, sizes, NSIZES, codec, level);
	tapped_flows(&p, t);
	pair_fill(&p, &s);
	fill_set(&p);
	for (uint64_t page = 5; page < 1000; page += 7) {
		fill_canary(p.from.r[0].base + page * PAGE_BYTES, PAGE_BYTES);
		bits_clear_range(p.dirty.set, page, 1);
	}
	pair_publish(&p, 0);
	for (time_t end = time(NULL) + 60; !all && time(NULL) < end;) {
		all = true;
		for (unsigned i = 0; i < PAIR_FLOWS; i++) {
			flow_poll(p.send[i]);
			flow_poll(p.recv[i]);
			tap_turn(&t[2 * i]);
			tap_turn(&t[2 * i + 1]);
			all &= atomic_load(&p.send[i]->done_pass) == 0;
		}
	}
	assert_true(all);
	for (unsigned i = 0; i < 2 * PAIR_FLOWS; i++) {
		assert_true(t[i].have > 0);
		assert_null(memmem(t[i].seen, t[i].have, &canary, sizeof(canary)));
		free(t[i].seen);
	}
	pair_close(&p);
	for (unsigned i = 0; i < PAIR_FLOWS; i++) {
		close(t[2 * i].from);
		close(t[2 * i].to);
	}
}

static void nothing_else_is_sent(void **state)
{
	(void)state;
	nothing_else_goes(NULL, 0);
	nothing_else_goes(&codec_isal, 1);
	nothing_else_goes(&codec_lz4, 0);
	nothing_else_goes(&codec_zstd, 1);
	nothing_else_goes(&codec_auto, 0);
}

// A link that takes no frame.
static unsigned full_tx(struct link *l, struct link_tx *f, unsigned n)
{
	(void)l, (void)f, (void)n;
	return 0;
}

static int64_t full_poll(struct link *l)
{
	(void)l;
	return 0;
}

static unsigned full_done(struct link *l, struct link_done *d, unsigned n)
{
	(void)l, (void)d, (void)n;
	return 0;
}

static void full_close(struct link *l)
{
	(void)l;
}

// An encoded frame can't leave before the link is polled again, so none is made behind it: each
// would be time in which the link is idle.
static void what_is_not_taken_ends_the_turn(void **state)
{
	static const struct link_ops full = {.name = "full",
		.tx = full_tx,
		.poll = full_poll,
		.done = full_done,
		.close = full_close};
	static const uint64_t size[] = {64 * 64};
	struct link l = {.ops = &full, .slots = 8};
	struct seed s = {.state = 17};
	const struct send *turn;
	struct pair p;

	(void)state;
	pair_open(&p, size, 1, &codec_lz4, 0);
	assert_int_equal(flow_send_new(&p.send[0], &p.send_job, &l, 1, -1, NULL), 0);
	assert_int_equal(flow_send_new(&p.send[1], &p.send_job, &l, 2, -1, NULL), 0);
	seed_fill(&s, p.from.r[0].base, p.from.r[0].bytes);
	for (uint64_t i = 0; i < p.from.r[0].bytes; i += 2)
		p.from.r[0].base[i] = 'w';
	fill_set(&p);
	pair_publish(&p, 0);
	turn = p.send[0]->priv;
	for (unsigned turns = 1; turns < 4; turns++) {
		flow_poll(p.send[0]);
		assert_int_equal(turn->pack.tail - turn->pack.head, turns);
	}
	pair_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moves_raw),
		cmocka_unit_test(moves_encoded),
		cmocka_unit_test(later_passes),
		cmocka_unit_test(zeros_are_cheap),
		cmocka_unit_test(pace_is_kept),
		cmocka_unit_test(sums_that_disagree),
		cmocka_unit_test(stop_claims_no_more),
		cmocka_unit_test(what_is_not_taken_ends_the_turn),
		cmocka_unit_test(nothing_else_is_sent),
		cmocka_unit_test(sealed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
