// SPDX-License-Identifier: BSD-3-Clause
// Windows of the target's memory by turns, against a model of the target and of what is on its way:
// whatever lanes, completions and answers do, in whatever order, no window is dropped while a write
// with its key is under way, no more are held than may be, and the front gets its keys at last.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "link_rdma_pool.h"
#include "planted.h"
#include "seed.h"

#define LANES   3u
#define FLYING  32u // writes of a lane that have not completed, at most
#define WINDOWS 14u // 10 of the first region, 4 of the third; the second has none
#define PASSES  6u

struct lane {
	struct link_rdma_pool_seen seen;
	uint64_t tail, freed;
	uint32_t rkey[FLYING]; // by send, 0: through a slot
};

// Windows of the target: their keys, 0 where they are not registered.
struct model {
	struct link_rdma_pool *p;
	struct region_map map;
	struct seed s;
	struct lane lane[LANES];
	uint32_t rkey[WINDOWS];
	uint32_t next_rkey, registered, most;
	uint32_t asked[WINDOWS]; // not answered, in order
	unsigned nasked;
	uint64_t direct, slots;
};

static void plan_of(struct link_rdma_pool_plan *plan, uint32_t most)
{
	*plan = (struct link_rdma_pool_plan){
		.window_bytes = LINK_RDMA_POOL_CHUNK * CHUNK_BYTES,
		.most = most,
		.there = {true, false, true},
		.base = {0x100000000, 0, 0x900000000},
	};
}

static void begin(struct model *m, uint64_t seed, uint32_t most)
{
	struct link_rdma_pool_plan plan;

	memset(m, 0, sizeof(*m));
	m->s.state = seed;
	m->most = most;
	m->next_rkey = 1;
	region_map_init(&m->map);
	// The last window of a region may be shorter.
	region_add(&m->map, "low", -1, 157 * CHUNK_BYTES, PAGE_BYTES, NULL);
	region_add(&m->map, "rom", -1, CHUNK_BYTES, PAGE_BYTES, NULL);
	region_add(&m->map, "high", -1, 64 * CHUNK_BYTES, PAGE_BYTES, NULL);
	plan_of(&plan, most);
	assert_int_equal(link_rdma_pool_new(&m->p, &m->map, &plan, LANES, NULL), 0);
	assert_int_equal(m->p->n, WINDOWS);
}

static uint32_t window_at(unsigned region, uint64_t chunk)
{
	return (region == 2 ? 10 : 0) + (uint32_t)(chunk / LINK_RDMA_POOL_CHUNK);
}

static void lane_sends(struct model *m, struct lane *l, unsigned region, uint32_t chunk)
{
	uint32_t rkey = 0;
	uint64_t to;

	if (l->tail - l->freed == FLYING)
		return;
	if (!link_rdma_pool_key(m->p, region, chunk, &to, &rkey)) {
		rkey = 0;
		m->slots++;
	} else {
		m->direct++;
		assert_int_equal(rkey, m->rkey[window_at(region, chunk)]);
		assert_int_equal(to, (region == 2 ? 0x900000000 : 0x100000000) +
					     ((uint64_t)chunk << CHUNK_SHIFT));
	}
	l->rkey[l->tail++ % FLYING] = rkey;
}

static void no_write_needs(const struct model *m, uint32_t rkey)
{
	for (unsigned i = 0; i < LANES; i++)
		for (uint64_t at = m->lane[i].freed; at < m->lane[i].tail; at++)
			if (m->lane[i].rkey[at % FLYING] == rkey)
				fail_msg("a window was dropped with a write on its way");
}

// What control would say to the target: drops first.
static void target_hears(struct model *m, const struct link_rdma_pool_ask *ask)
{
	for (unsigned i = 0; i < ask->ndrop; i++) {
		assert_true(ask->drop[i] < WINDOWS && m->rkey[ask->drop[i]] != 0);
		no_write_needs(m, m->rkey[ask->drop[i]]);
		m->rkey[ask->drop[i]] = 0;
		m->registered--;
	}
	for (unsigned i = 0; i < ask->nwant; i++) {
		assert_true(ask->want[i] < WINDOWS && m->rkey[ask->want[i]] == 0);
		m->asked[m->nasked++] = ask->want[i];
	}
	assert_true(m->registered + m->nasked <= m->most);
}

static void target_answers(struct model *m, bool refuses)
{
	uint32_t window;

	if (m->nasked == 0)
		return;
	window = m->asked[0];
	memmove(m->asked, m->asked + 1, --m->nasked * sizeof(m->asked[0]));
	if (refuses) {
		assert_int_equal(link_rdma_pool_refused(m->p, window), 0);
		m->most = m->registered + m->nasked > 0 ? m->registered + m->nasked : 1;
		return;
	}
	m->rkey[window] = m->next_rkey++;
	m->registered++;
	assert_int_equal(link_rdma_pool_registered(m->p, window, m->rkey[window]), 0);
	// What was answered is answered.
	assert_int_equal(link_rdma_pool_registered(m->p, window, 1), -EPROTO);
	assert_int_equal(link_rdma_pool_refused(m->p, window), -EPROTO);
}

static void control_turns(struct model *m, unsigned region, uint32_t chunk)
{
	uint32_t end = (uint32_t)m->map.r[region].nchunks;
	struct link_rdma_pool_ask ask;

	if (chunk > 0)
		link_rdma_pool_hold(m->p, region, chunk - 1, 1);
	for (uint32_t c = chunk; c < end; c += LINK_RDMA_POOL_CHUNK)
		if (!link_rdma_pool_near(m->p, region, c,
			    end - c < LINK_RDMA_POOL_CHUNK ? end - c : LINK_RDMA_POOL_CHUNK))
			break;
	if (link_rdma_pool_turn(m->p, &ask))
		target_hears(m, &ask);
}

static void lane_passes(struct model *m, unsigned i)
{
	struct lane *l = &m->lane[i];

	l->freed += seed_below(&m->s, l->tail - l->freed + 1);
	link_rdma_pool_pass(m->p, i, &l->seen, l->tail, l->freed);
}

// Everything happens now and then while a front walks over the guest.
static void walk(struct model *m, unsigned region, unsigned refuse)
{
	uint32_t chunk = 0;

	while (chunk < m->map.r[region].nchunks) {
		unsigned i = (unsigned)seed_below(&m->s, LANES);

		switch (seed_below(&m->s, 5)) {
		case 0:
			control_turns(m, region, chunk);
			break;
		case 1:
			target_answers(m, refuse != 0 && seed_below(&m->s, refuse) == 0);
			break;
		case 2:
			lane_passes(m, i);
			break;
		default:
			lane_sends(m, &m->lane[i], region, chunk);
			chunk += seed_below(&m->s, 3) == 0;
		}
	}
}

static void none_is_dropped_under_way(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct model m;

		begin(&m, seed, 4 + seed % 5);
		for (unsigned pass = 0; pass < PASSES; pass++)
			for (unsigned region = 0; region < 3; region += 2)
				walk(&m, region, seed % 3 == 0 ? 50 : 0);
		assert_true(m.slots > 0 && m.p->counts.asked > 0);
		if (seed % 3 != 0)
			assert_true(m.direct > m.slots / 4 && m.p->counts.dropped > 0);
		link_rdma_pool_free(m.p);
	}
}

// One step after the other: a lane that has not passed, or whose write has not completed, is waited
// for; the others are not enough.
static void waits_for_each_lane(void **state)
{
	struct link_rdma_pool_ask ask;
	struct model m;

	(void)state;
	begin(&m, 1, 4);
	control_turns(&m, 0, 0); // two windows
	target_answers(&m, false);
	target_answers(&m, false);
	assert_int_equal(m.registered, 2);
	lane_sends(&m, &m.lane[0], 0, 0);
	assert_int_equal(m.direct, 1);
	control_turns(&m, 0, 32); // two more; the first is to go, so that there is room
	lane_sends(&m, &m.lane[1], 0, 0);
	assert_int_equal(m.slots, 1);
	for (unsigned i = 0; i < LANES; i++)
		link_rdma_pool_pass(
			m.p, i, &m.lane[i].seen, m.lane[i].tail, i == 0 ? 0 : m.lane[i].tail);
	assert_false(link_rdma_pool_turn(m.p, &ask));
	m.lane[0].freed = 1;
	assert_false(link_rdma_pool_turn(m.p, &ask));
	link_rdma_pool_pass(m.p, 0, &m.lane[0].seen, m.lane[0].tail, 1);
	assert_true(link_rdma_pool_turn(m.p, &ask));
	assert_int_equal(ask.ndrop, 1);
	assert_int_equal(ask.drop[0], 0);
	link_rdma_pool_free(m.p);
}

// The connections were lost: nothing is held, and all begins anew.
static void forgets(void **state)
{
	struct link_rdma_pool_ask ask;
	struct model m;
	uint32_t rkey;
	uint64_t to;

	(void)state;
	begin(&m, 1, 4);
	control_turns(&m, 0, 0);
	target_answers(&m, false);
	assert_true(link_rdma_pool_key(m.p, 0, 0, &to, &rkey));
	link_rdma_pool_forget(m.p);
	assert_false(link_rdma_pool_key(m.p, 0, 0, &to, &rkey));
	assert_int_equal(link_rdma_pool_registered(m.p, 1, 5), -EPROTO); // asked before
	link_rdma_pool_near(m.p, 0, 0, 32);
	assert_true(link_rdma_pool_turn(m.p, &ask));
	assert_int_equal(ask.nwant, 2);
	link_rdma_pool_free(m.p);
}

// Turns until a window is asked for.
static unsigned turns_to_ask(struct model *m, uint32_t chunk)
{
	unsigned turns = 1;

	for (control_turns(m, 0, chunk); m->nasked == 0; turns++) {
		for (unsigned i = 0; i < LANES; i++)
			lane_passes(m, i);
		control_turns(m, 0, chunk);
		assert_in_range(turns, 1, 1000);
	}
	return turns;
}

// What a device refuses for now may be taken later: it is asked, but not again and again, and one
// window is enough to go through all of them. Flows that begin anew begin with what was told.
static void refusals_are_not_for_good(void **state)
{
	struct link_rdma_pool_ask ask;
	struct model m;

	(void)state;
	begin(&m, 1, 8);
	assert_int_equal(turns_to_ask(&m, 0), 1);
	assert_int_equal(m.nasked, 4);
	while (m.nasked > 0)
		target_answers(&m, true);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(turns_to_ask(&m, 0) > 10);
		assert_int_equal(m.nasked, 1);
		target_answers(&m, true);
	}
	for (uint32_t chunk = 0; chunk < 9 * LINK_RDMA_POOL_CHUNK; chunk += LINK_RDMA_POOL_CHUNK) {
		(void)turns_to_ask(&m, chunk + 1); // the one before is in no hands
		target_answers(&m, false);
		assert_int_equal(m.registered, 1);
	}
	link_rdma_pool_forget(m.p);
	link_rdma_pool_near(m.p, 0, 0, 157);
	assert_true(link_rdma_pool_turn(m.p, &ask));
	assert_int_equal(ask.nwant, 4);
	link_rdma_pool_free(m.p);
}

// Few chunks of a window are not worth it, and a region without windows, or a chunk behind its
// last one, is no window.
static void asks_for_what_is_worth_it(void **state)
{
	struct link_rdma_pool_ask ask;
	struct link_rdma_pool_plan plan;
	struct link_rdma_pool *p;
	struct model m;
	uint32_t rkey;
	uint64_t to;

	(void)state;
	begin(&m, 1, 4);
	plan_of(&plan, 6);
	plan.window_bytes *= 4;
	assert_int_equal(link_rdma_pool_new(&p, &m.map, &plan, 1, NULL), 0);
	link_rdma_pool_near(p, 0, 0, 3);
	assert_false(link_rdma_pool_turn(p, &ask));
	link_rdma_pool_near(p, 0, 0, 3);
	link_rdma_pool_near(p, 0, 7, 1);
	assert_true(link_rdma_pool_turn(p, &ask));
	assert_int_equal(ask.nwant, 1);
	link_rdma_pool_near(p, 1, 0, 1);
	link_rdma_pool_hold(p, 1, 0, 1);
	link_rdma_pool_near(p, 2, 64, 1);
	assert_false(link_rdma_pool_turn(p, &ask));
	assert_false(link_rdma_pool_key(p, 1, 0, &to, &rkey));
	assert_false(link_rdma_pool_key(p, 2, 64, &to, &rkey));
	assert_int_equal(link_rdma_pool_registered(p, UINT64_MAX, 0), -EPROTO);
	link_rdma_pool_free(p);
	link_rdma_pool_free(m.p);
}

// From outside.
static void plans_are_checked(void **state)
{
	static const uint64_t windows[] = {0, 1, CHUNK_BYTES,
		3 * LINK_RDMA_POOL_CHUNK * CHUNK_BYTES, UINT64_C(1) << 62, UINT64_MAX};
	struct link_rdma_pool_plan plan;
	struct link_rdma_pool *p;
	struct model m;

	(void)state;
	begin(&m, 1, 4);
	for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
		plan_of(&plan, 4);
		plan.window_bytes = windows[i];
		assert_int_equal(link_rdma_pool_new(&p, &m.map, &plan, 1, NULL), -EPROTO);
	}
	plan_of(&plan, LINK_RDMA_POOL_LEAST - 1);
	assert_int_equal(link_rdma_pool_new(&p, &m.map, &plan, 1, NULL), -EPROTO);
	plan_of(&plan, 4);
	plan.base[0] = UINT64_MAX - CHUNK_BYTES;
	assert_int_equal(link_rdma_pool_new(&p, &m.map, &plan, 1, NULL), -EPROTO);
	plan_of(&plan, 4);
	plan.there[0] = plan.there[2] = false;
	assert_int_equal(link_rdma_pool_new(&p, &m.map, &plan, 1, NULL), -EPROTO);
	plan_of(&plan, 4);
	assert_int_equal(link_rdma_pool_new(&p, &m.map, &plan, 0, NULL), -EINVAL);
	assert_int_equal(
		link_rdma_pool_new(&p, &m.map, &plan, LINK_RDMA_POOL_LANES + 1, NULL), -EINVAL);
	link_rdma_pool_free(NULL);
	link_rdma_pool_free(m.p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(none_is_dropped_under_way),
		cmocka_unit_test(waits_for_each_lane),
		cmocka_unit_test(forgets),
		cmocka_unit_test(refusals_are_not_for_good),
		cmocka_unit_test(asks_for_what_is_worth_it),
		cmocka_unit_test(plans_are_checked),
	};

	return planted_run(tests, PLANT_RDMA_DROP_EARLY);
}
