// SPDX-License-Identifier: BSD-3-Clause
// The choice of a codec, step by step; tests/sim/sim_choose.c plays it whole.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "choose.h"
#include "region.h"
#include "seed.h"

static const struct choose_cost assumed[] = {{0, 1, 1, 1}, {4, .6, 0, 2}, {8, .4, 0, 4}};

static unsigned kind(const uint8_t *p, size_t bytes)
{
	struct iovec seg = {(void *)p, bytes};

	return choose_kind(&seg, 1, bytes);
}

// Random bytes are told from all that can be compressed, in one page as in 64, in pieces as whole;
// and no byte outside is read.
static void content_has_a_kind(void **state)
{
	uint8_t *map = mmap(NULL, CHUNK_BYTES + PAGE_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *end = map + CHUNK_BYTES;
	struct iovec seg[CHUNK_PAGES];
	struct seed s = {.state = 1};

	(void)state;
	assert_true(map != MAP_FAILED);
	assert_int_equal(mprotect(end, PAGE_BYTES, PROT_NONE), 0);
	seed_fill(&s, map, CHUNK_BYTES);
	for (size_t bytes = PAGE_BYTES; bytes <= CHUNK_BYTES; bytes += PAGE_BYTES)
		assert_int_equal(kind(end - bytes, bytes), 0);
	for (unsigned i = 0; i < CHUNK_PAGES; i++)
		seg[i] = (struct iovec){end - (i + 1) * PAGE_BYTES, PAGE_BYTES};
	assert_int_equal(choose_kind(seg, CHUNK_PAGES, CHUNK_BYTES), 0);
	for (size_t i = 0; i < CHUNK_BYTES; i++)
		map[i] &= 0x7f; // seven bits of eight
	assert_true(kind(map, CHUNK_BYTES) > 0);
	for (size_t i = 0; i < CHUNK_BYTES; i++)
		map[i] = i % 8 < 3 ? map[i] : 0; // small numbers in words of 64 bits
	assert_true(kind(map, CHUNK_BYTES) >= 6);
	memset(map, 0x80, CHUNK_BYTES);
	assert_int_equal(kind(map, CHUNK_BYTES), CHOOSE_TEXT - 1);
	memset(map, 'x', CHUNK_BYTES);
	assert_int_equal(kind(map, CHUNK_BYTES), CHOOSE_TEXT);
	for (size_t i = 0; i < CHUNK_BYTES; i += 8)
		map[i] = 0; // strings in something else
	assert_int_equal(kind(map, CHUNK_BYTES), CHOOSE_TEXT - 1);
	munmap(map, CHUNK_BYTES + PAGE_BYTES);
}

static void hungry_links_get_raw_pages(void **state)
{
	struct choose_link l = {.pressure = -1, .held_bytes = -1};
	struct choose c;

	(void)state;
	choose_init(&c, assumed, 3, 1 << 20);
	for (unsigned f = 0; f < 1000; f++) {
		l.now_cycles += 100000;
		l.sent_bytes += CHUNK_BYTES;
		assert_false(choose_look(&c, &l));
	}
}

// Frames until the choice is the last option.
static unsigned climb(struct choose *c, struct choose_link *l)
{
	unsigned f = 0;

	l->pressure = 1;
	for (; f < 1000; f++) {
		unsigned i;

		l->now_cycles += 10000000;
		l->sent_bytes += CHUNK_BYTES;
		if (!choose_look(c, l))
			continue;
		i = choose_pick(c, 3, CHUNK_BYTES);
		if (i > 0)
			choose_learn(c, 3, i, CHUNK_BYTES, (size_t)(assumed[i].ratio * CHUNK_BYTES),
				(uint64_t)(assumed[i].cycles * CHUNK_BYTES));
		if (i == 2)
			break;
	}
	return f;
}

// However long a backlog lasts, the price stays where hunger takes it back soon.
static void backlog_is_answered_and_forgotten(void **state)
{
	struct choose_link l = {.held_bytes = -1};
	struct choose c;
	unsigned f;

	(void)state;
	choose_init(&c, assumed, 3, 1 << 20);
	assert_true(climb(&c, &l) < 100);
	for (unsigned i = 0; i < 1000; i++)
		climb(&c, &l);
	l.pressure = -1;
	for (f = 0; f < 500 && choose_look(&c, &l); f++) {
		choose_pick(&c, 3, CHUNK_BYTES);
		l.now_cycles += 1000000;
	}
	assert_true(f < 200);
}

// A link that tells what it holds is not filled with raw pages before its rate is known; then, what
// it holds decides.
static void what_is_held_decides(void **state)
{
	struct choose_link l = {.now_cycles = 1, .pressure = -1};
	struct choose c;
	unsigned raw = 0;

	(void)state;
	choose_init(&c, assumed, 3, 8 << 20);
	for (; raw < 100 && !choose_look(&c, &l); raw++) {
		l.told_cycles = l.now_cycles += 100000;
		l.sent_bytes += CHUNK_BYTES;
		l.held_bytes += CHUNK_BYTES;
	}
	assert_in_range(raw, (1 << 20) / CHUNK_BYTES, (2 << 20) / CHUNK_BYTES);
	// It drains a byte in 20 cycles. Half full: it is worth while to compress.
	l.held_bytes = 4 << 20;
	for (unsigned f = 0; f < 1000; f++) {
		l.told_cycles = l.now_cycles += 200000;
		l.sent_bytes += 10000;
		l.left_bytes += 10000;
		if (choose_look(&c, &l))
			choose_pick(&c, 3, CHUNK_BYTES);
	}
	assert_true(choose_look(&c, &l));
	l.held_bytes = 0;
	l.now_cycles += 200000;
	assert_false(choose_look(&c, &l));
	l.held_bytes = 4 << 20;
	l.now_cycles += 200000;
	assert_true(choose_look(&c, &l));
}

// Two frames in a row are made before the link tells again: what it told before the first says
// nothing of the time between them, and the second is no sign that nothing drains.
static void old_news_teach_nothing(void **state)
{
	struct choose_link l = {.now_cycles = 1, .told_cycles = 1, .pressure = -1};
	struct choose c;

	(void)state;
	choose_init(&c, assumed, 3, 8 << 20);
	for (unsigned f = 0; f < 2000; f++) {
		l.now_cycles += 100000;
		if (f % 2 == 0) { // 2 cycles a byte
			l.left_bytes += 100000;
			l.told_cycles = l.now_cycles;
			l.held_bytes = 200000;
		}
		l.sent_bytes = l.left_bytes + 200000;
		choose_look(&c, &l);
	}
	assert_true(c.drain > .49 && c.drain < .51);
}

// Frames are made, of each byte of whose content the core has so many cycles of work.
static void works(struct choose *c, struct choose_link *l, unsigned frames, unsigned cycles)
{
	for (unsigned f = 0; f < frames; f++) {
		l->told_cycles = l->now_cycles += 10 * CHUNK_BYTES;
		l->content_bytes += CHUNK_BYTES;
		l->busy_cycles += cycles * CHUNK_BYTES;
		choose_look(c, l);
	}
}

// What the core does beside encoding is told as it is: a wait is no work.
static void waits_are_no_work(void **state)
{
	struct choose_link l = {.now_cycles = 1, .told_cycles = 1, .pressure = -1};
	struct choose c;

	(void)state;
	choose_init(&c, assumed, 3, 8 << 20);
	for (unsigned i = 0; i < 32; i++) {
		works(&c, &l, 31, 2);
		l.waited = true;
		works(&c, &l, 1, 12); // less than what passes for an absence
		l.waited = false;
	}
	assert_true(c.other_cycles > 1.9 && c.other_cycles < 2.1);
}

// One time when the core was away is no new normal.
static void absence_is_no_work(void **state)
{
	struct choose_link l = {.now_cycles = 1, .told_cycles = 1, .pressure = -1};
	struct choose c;

	(void)state;
	choose_init(&c, assumed, 3, 8 << 20);
	works(&c, &l, 1000, 1);
	l.busy_cycles += UINT64_C(1) << 40;
	works(&c, &l, 16, 1);
	assert_true(c.other_cycles < 1.5);
}

// Who had to wait for room is not hungry, however little the link holds: its buffers are small.
static void who_waits_is_not_hungry(void **state)
{
	struct choose_link l = {.now_cycles = 1, .told_cycles = 1, .pressure = -1};
	struct choose c;

	(void)state;
	choose_init(&c, assumed, 3, 8 << 20);
	choose_look(&c, &l);
	assert_true(c.link.pressure < -.9);
	l.now_cycles += 100000;
	l.waited = true;
	choose_look(&c, &l);
	assert_true(c.link.pressure >= 0);
}

// A link that is to hold enough is not full before, and is then.
static void enough_is_enough(void **state)
{
	struct choose_link l = {.now_cycles = 1, .told_cycles = 1, .pressure = -1};
	struct choose c;

	(void)state;
	choose_init(&c, assumed, 3, 1 << 20);
	assert_false(choose_full(&c, 1 << 20));
	assert_true(choose_full(&c, 2 << 20));
	for (unsigned f = 0; f < 1000; f++) { // a byte in 4 cycles
		l.told_cycles = l.now_cycles += 400000;
		l.left_bytes += 100000;
		l.held_bytes = 2 << 20;
		choose_look(&c, &l);
	}
	assert_false(choose_full(&c, (1 << 22) / 4 * 3.9 * 2));
	assert_true(choose_full(&c, (1 << 22) * 2.1));
	c.drain = 10; // however fast it is
	l.now_cycles += 100000;
	choose_look(&c, &l);
	assert_false(choose_full(&c, 8 << 20));
	assert_true(choose_full(&c, 32 << 20));
}

// However long a link was hungry, or its target busy, what is known of it stays a number, and soon
// is right again.
static void long_times_are_forgotten(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 4; how++) {
		bool told = how & 1, busy = how & 2;
		struct choose_link l = {.now_cycles = 1,
			.pressure = busy ? 1 : -1,
			.held_bytes = told ? 0 : -1,
			.target_busy = busy ? 1 : 0};
		unsigned f = 0, encoded = 0;
		struct choose c;

		choose_init(&c, assumed, 3, 4 << 20);
		for (; f < 1000000; f++) {
			l.told_cycles = l.now_cycles +=
				50000000; // much longer than raw frames take
			l.sent_bytes += CHUNK_BYTES;
			l.left_bytes = told ? l.sent_bytes : 0;
			if (choose_look(&c, &l))
				choose_pick(&c, 3, CHUNK_BYTES);
		}
		assert_true(c.drain >= 0 && c.drain < 1000 && c.price > 0 && c.price < 1e6);
		// A byte in 60 cycles, from now on.
		l.pressure = 1;
		l.target_busy = .1;
		for (f = 0; f < 400; f++) {
			unsigned i = choose_look(&c, &l) ? choose_pick(&c, 3, CHUNK_BYTES) : 0;
			uint64_t bytes = (uint64_t)(assumed[i].ratio * CHUNK_BYTES);

			if (i > 0)
				choose_learn(&c, 3, i, CHUNK_BYTES, bytes,
					(uint64_t)(assumed[i].cycles * CHUNK_BYTES));
			l.told_cycles = l.now_cycles += bytes * 60;
			l.sent_bytes += bytes;
			l.left_bytes += told ? bytes : 0;
			l.held_bytes = told ? 4 << 20 : -1;
			encoded += f >= 200 && i > 0;
		}
		assert_int_equal(encoded, 200);
	}
}

// A link that holds nothing but the frame that waits, and drains that before the dearest option has
// made one: a backlog that lasts raises the price no further than the best option that there is,
// and hunger takes it back.
static void what_no_price_makes_best_raises_none(void **state)
{
	struct choose_link l = {.pressure = 1, .held_bytes = -1};
	unsigned chosen = 0, f;
	struct choose c;

	(void)state;
	choose_init(&c, assumed, 3, 0);
	for (f = 0; f < 20000; f++) {
		unsigned i;

		l.now_cycles += (uint64_t)(CHUNK_BYTES / .18);
		l.sent_bytes += CHUNK_BYTES;
		if (!choose_look(&c, &l))
			continue;
		i = choose_pick(&c, 3, CHUNK_BYTES);
		chosen += i == 1;
		if (i > 0)
			choose_learn(&c, 3, i, CHUNK_BYTES,
				(size_t)(assumed[i].ratio * CHUNK_BYTES),
				(uint64_t)(assumed[i].cycles * CHUNK_BYTES));
	}
	assert_true(c.price < 1000);
	assert_true(chosen > 15000);
	l.pressure = -1;
	for (f = 0; f < 500 && choose_look(&c, &l) && choose_pick(&c, 3, CHUNK_BYTES) != 0; f++)
		l.now_cycles += 100000;
	assert_true(f < 200);
}

static void what_is_no_use_is_not_chosen(void **state)
{
	struct choose_link l = {.pressure = 1, .held_bytes = -1};
	unsigned encoded = 0;
	struct choose c;

	(void)state;
	choose_init(&c, assumed, 3, 1 << 20);
	for (unsigned f = 0; f < 10000; f++) {
		unsigned i;

		l.now_cycles += 10000000;
		l.sent_bytes += CHUNK_BYTES;
		if (!choose_look(&c, &l))
			continue;
		i = choose_pick(&c, 0, CHUNK_BYTES);
		if (i == 0)
			continue;
		encoded++;
		choose_learn(&c, 0, i, CHUNK_BYTES, CHUNK_BYTES, CHUNK_BYTES);
	}
	assert_true(encoded < 50);
}

// Frames raw of the last 100 of many. A byte on the wire takes so many cycles, and the target so
// many times what is assumed of it; each frame takes what the slowest of the three takes.
static unsigned raw_frames(struct choose *c, struct choose_link *l, double wire, double times)
{
	unsigned raw = 0;

	l->pressure = 1;
	for (unsigned f = 0; f < 1100; f++) {
		const struct choose_cost *o = &assumed[0];
		double cycles;
		unsigned i = 0;

		if (choose_look(c, l))
			i = choose_pick(c, 3, CHUNK_BYTES);
		o = &assumed[i];
		if (i > 0)
			choose_learn(c, 3, i, CHUNK_BYTES, (size_t)(o->ratio * CHUNK_BYTES),
				(uint64_t)(o->cycles * CHUNK_BYTES));
		choose_placed(c, i, CHUNK_BYTES);
		cycles = o->cycles > wire * o->ratio ? o->cycles : wire * o->ratio;
		if (cycles < times * o->decode)
			cycles = times * o->decode;
		l->target_busy = times * o->decode / cycles;
		l->now_cycles += (uint64_t)(cycles * CHUNK_BYTES);
		l->sent_bytes += (uint64_t)(o->ratio * CHUNK_BYTES);
		raw += f >= 1000 && i == 0;
	}
	return raw;
}

// The same backlog is the wire's, or the target's, which decoding makes slower.
static void busy_targets_get_raw_pages(void **state)
{
	struct choose_link l = {.held_bytes = -1};
	struct choose c;

	(void)state;
	choose_init(&c, assumed, 3, 64 << 20);
	assert_int_equal(raw_frames(&c, &l, 30, 1), 0);
	assert_int_equal(raw_frames(&c, &l, 1, 10), 100);
	assert_int_equal(raw_frames(&c, &l, 30, 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(content_has_a_kind),
		cmocka_unit_test(hungry_links_get_raw_pages),
		cmocka_unit_test(backlog_is_answered_and_forgotten),
		cmocka_unit_test(what_is_held_decides),
		cmocka_unit_test(old_news_teach_nothing),
		cmocka_unit_test(waits_are_no_work),
		cmocka_unit_test(absence_is_no_work),
		cmocka_unit_test(who_waits_is_not_hungry),
		cmocka_unit_test(enough_is_enough),
		cmocka_unit_test(long_times_are_forgotten),
		cmocka_unit_test(what_no_price_makes_best_raises_none),
		cmocka_unit_test(what_is_no_use_is_not_chosen),
		cmocka_unit_test(busy_targets_get_raw_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
