// SPDX-License-Identifier: BSD-3-Clause
// The choice of a codec by backlog. Run by the source's polling core.
//
// Invariants: the price rises only while a dearer option would take more off the wire, and falls
// only while a cheaper one is left, so it never runs away from where it matters. What is tried to
// learn costs a bounded share of the cycles that encoding takes.

#include "choose.h"

#include <string.h>

#define GAIN       (1.0 / 32) // of the price, a frame
#define GAIN_FIRST (1.0 / 8)  // the same, until it was too high for the first time
// Added to the price while frames wait, taken off while none do: without that it swings.
#define AT_ONCE     (1.0 / 3)
#define WEIGHT      (1.0 / 8)  // of a new observation
#define TRIAL_SHARE (1.0 / 64) // of cycles spent, for options that were not chosen
#define OUTLIER     8.0        // times what is known: the core was taken away meanwhile

// Busier than this, the target's core is what limits the flow. How long it takes is learned so
// often, in cycles: twice what it adds up over.
#define TARGET_FULL   0.95
#define TARGET_CYCLES (1u << 23)
#define PROBE         (1.0 / 256) // of what the link takes, while nothing is learned of it

#define LINE       64u
#define LOOK_LINES 16u

static void find_least(struct choose *c)
{
	c->least = 1e9;
	for (unsigned k = 0; k < CHOOSE_KINDS; k++)
		for (unsigned i = 1; i < c->n; i++) {
			const struct choose_cost *o = &c->cost[k][i];

			if (o->ratio < 1 && o->cycles < c->least * (1 - o->ratio))
				c->least = o->cycles / (1 - o->ratio);
		}
}

void choose_init(
	struct choose *c, const struct choose_cost *assumed, unsigned n, uint64_t buffer_bytes)
{
	memset(c, 0, sizeof(*c));
	c->n = n;
	for (unsigned k = 0; k < CHOOSE_KINDS; k++)
		memcpy(c->cost[k], assumed, n * sizeof(*assumed));
	c->buffer_bytes = (double)buffer_bytes;
	find_least(c);
	c->price = c->least / 2;
}

static double price_now(const struct choose *c)
{
	return c->price * (1 + AT_ONCE * c->link.pressure);
}

static double gain(const struct choose *c)
{
	return c->settled ? GAIN : GAIN_FIRST;
}

// What the link took since the frame before, and what it holds of that.
static void follow_link(struct choose *c, const struct choose_link *l)
{
	double cycles = (double)(l->now_cycles - c->link.now_cycles);
	double bytes = (double)(l->sent_bytes - c->link.sent_bytes);
	double most = c->buffer_bytes + c->frame_bytes; // one waits, at least
	bool first = c->link.now_cycles == 0 || cycles <= 0;

	// It was full at both ends of this time: as much as it took has left it. Less than before
	// says nothing of the link where the target held it up.
	if (!first && c->link.pressure > 0 && l->pressure > 0 &&
		(l->target_busy < TARGET_FULL || bytes > c->drain * cycles))
		c->drain += (c->drain == 0 ? 1 : WEIGHT) * (bytes / cycles - c->drain);
	if (!first)
		c->held_bytes += bytes - c->drain * cycles;
	if (l->pressure > 0 || c->held_bytes > most)
		c->held_bytes = most;
	if (c->held_bytes < 0)
		c->held_bytes = 0;
	c->link = *l;
}

// What the target's core did since the last time was for the frames that it answered meanwhile. And
// what the link took while the target was the slower of the two, it can take.
static void follow_target(struct choose *c, const struct choose_link *l)
{
	double cycles = (double)(l->now_cycles - c->told.now_cycles);
	double expected = c->placed_cycles, rate;

	if (cycles < TARGET_CYCLES)
		return;
	rate = (double)(l->sent_bytes - c->told.sent_bytes) / cycles;
	c->placed_cycles = 0;
	if (c->told.now_cycles != 0 && expected > 0 && l->target_busy > 0)
		c->times += (c->times == 0 ? 1 : WEIGHT) *
			    (l->target_busy * cycles / expected - c->times);
	if (c->told.now_cycles != 0 && l->target_busy > TARGET_FULL && c->drain > 0)
		c->drain += rate > c->drain ? WEIGHT * (rate - c->drain) : PROBE * c->drain;
	c->told = *l;
}

void choose_placed(struct choose *c, unsigned option, size_t bytes)
{
	c->placed_cycles += c->cost[0][option].decode * (double)bytes;
}

bool choose_look(struct choose *c, const struct choose_link *l)
{
	follow_target(c, l);
	follow_link(c, l);
	if (price_now(c) >= c->least) {
		c->settled |= l->pressure < 0;
		return true;
	}
	if (l->pressure > 0)
		c->price *= 1 + gain(c) * l->pressure;
	return false;
}

// Bytes that are all equally frequent give 1, those of text about 16: the chance that two of them
// are the same, times 256. No logarithm, and hardly any noise at 1.
unsigned choose_kind(const struct iovec *seg, unsigned nseg, size_t bytes)
{
	uint32_t count[256] = {0};
	uint64_t pairs = 0, even;
	size_t begin = 0;
	unsigned s = 0, kind = 0, n = 0;

	for (unsigned i = 0; i < LOOK_LINES && s < nseg; i++) {
		// Not always at the same place in a page.
		size_t at = bytes / LOOK_LINES * i + (i * 13 * LINE) % (bytes / LOOK_LINES);

		at -= at % LINE;
		while (s < nseg && at >= begin + seg[s].iov_len)
			begin += seg[s++].iov_len;
		for (size_t b = 0; s < nseg && b < LINE; b++)
			count[((const uint8_t *)seg[s].iov_base)[at - begin + b]]++;
		n += LINE;
	}
	for (unsigned i = 0; i < 256; i++)
		pairs += (uint64_t)count[i] * (count[i] - (count[i] > 0));
	even = (uint64_t)n * (n - 1) / 256;
	if (pairs * 8 < even * 9)
		return 0;
	while (kind < CHOOSE_KINDS - 1 && pairs >= even << kind)
		kind++;
	return kind;
}

// Bytes of the link that an option takes. What the link holds lasts for a while; an option that
// takes longer costs what could have left it meanwhile.
static double wire(const struct choose *c, const struct choose_cost *o, double bytes)
{
	double idle_bytes = c->drain * o->cycles * bytes - c->held_bytes;

	return o->ratio * bytes + (idle_bytes > 0 ? idle_bytes : 0);
}

static double cost(const struct choose *c, const struct choose_cost *o, double bytes)
{
	return o->cycles * bytes + price_now(c) * wire(c, o, bytes);
}

// Cycles a byte of content that the slowest of core, wire and target takes for it.
static double slowest(const struct choose *c, const struct choose_cost *o)
{
	double on_wire = c->drain > 0 ? o->ratio / c->drain : 0;
	double most = on_wire > o->cycles ? on_wire : o->cycles;

	return most > c->times * o->decode ? most : c->times * o->decode;
}

// As long as the target takes for this option, another would take all in all.
static void find_allowed(struct choose *c, const struct choose_cost *o)
{
	double least = slowest(c, &o[0]);

	for (unsigned i = 1; i < c->n; i++)
		if (slowest(c, &o[i]) < least)
			least = slowest(c, &o[i]);
	for (unsigned i = 0; i < c->n; i++)
		c->allowed[i] = i == 0 || c->times * o[i].decode <= least;
}

static unsigned best(const struct choose *c, const struct choose_cost *o, double bytes)
{
	unsigned found = 0;

	for (unsigned i = 1; i < c->n; i++)
		if (c->allowed[i] && cost(c, &o[i], bytes) < cost(c, &o[found], bytes))
			found = i;
	return found;
}

// By the measure of the choice itself: an option that no price makes the best must not raise it.
static bool has_smaller(
	const struct choose *c, const struct choose_cost *o, unsigned than, double bytes)
{
	for (unsigned i = 1; i < c->n; i++)
		if (c->allowed[i] && wire(c, &o[i], bytes) < wire(c, &o[than], bytes) * 0.99)
			return true;
	return false;
}

// The next option that there are cycles to try, or the one chosen.
static unsigned trial(struct choose *c, const struct choose_cost *o, unsigned chosen, double bytes)
{
	unsigned i = c->trial_option % (c->n - 1) + 1;

	if (!c->allowed[i])
		c->trial_option = i;
	if (!c->allowed[i] || (i != chosen && o[i].cycles * bytes > c->trial_cycles))
		return chosen;
	c->trial_option = i;
	if (i != chosen)
		c->trial_cycles -= o[i].cycles * bytes;
	return i;
}

unsigned choose_pick(struct choose *c, unsigned kind, size_t bytes)
{
	const struct choose_cost *o = c->cost[kind];
	double pressure = c->link.pressure;
	unsigned i;

	find_allowed(c, o);
	i = best(c, o, (double)bytes);

	if (pressure > 0 ? has_smaller(c, o, i, (double)bytes) : i != 0)
		c->price *= 1 + gain(c) * pressure;
	c->frame_bytes = o[i].ratio * (double)bytes;
	return pressure > 0 && c->n > 1 ? trial(c, o, i, (double)bytes) : i;
}

void choose_learn(struct choose *c, unsigned kind, unsigned option, size_t in_bytes,
	size_t out_bytes, uint64_t cycles)
{
	struct choose_cost *o = &c->cost[kind][option];
	double spent = (double)cycles / (double)in_bytes;
	double ratio = (double)out_bytes / (double)in_bytes;
	double weight = o->seen ? WEIGHT : 1;

	if (spent > o->cycles * OUTLIER)
		spent = o->cycles * OUTLIER;
	o->cycles += weight * (spent - o->cycles);
	o->ratio += weight * (ratio - o->ratio);
	o->seen = true;
	c->trial_cycles += (double)cycles * TRIAL_SHARE;
	find_least(c);
}
