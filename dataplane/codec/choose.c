// SPDX-License-Identifier: BSD-3-Clause
// The choice of a codec by backlog. Run by the source's polling core.
//
// Invariants: the price tends to the one at which core and wire would take the same time for the
// content as it comes, and is less while the link is about to be idle and more while it has a
// backlog; so it never runs away from where it matters. What is tried to learn costs a bounded
// share of the cycles that encoding takes.

#include "choose_impl.h"

#include <string.h>

#define AT_ONCE      0.7        // how far backlog and hunger move the price: up to 6 times
#define MIX_WEIGHT   (1.0 / 64) // of a frame, among those that tell what content comes
#define PRICE_CYCLES (1u << 21) // from one reckoning of the price to the next
#define PRICE_STEPS  6u         // halvings of what is between two doublings
#define PRICE_WEIGHT (1.0 / 16) // of one that is reckoned, at least: the first count more
#define HUNGRY       (-0.75)    // a pressure: then it falls at once
#define PRICE_MOST   128.0      // times the least that matters: few options gain by more
#define OTHER        0.3        // cycles a byte of what is not encoding, assumed

// Of new observations: how slow the core is now, what an option takes beside the others. One is
// believed up to so many times what is known, or else assumed: the core may have been taken away.
// It is not faster than it is for long, so the first ones that are below count whole.
#define SLOW_WEIGHT (1.0 / 16)
#define SEEN_WELL   4u  // times: after one more it is the core that is slow
#define SEEN_MOST   62u // of an option: no observation counts less than 1 / 32
#define OUTLIER     1.5
#define LEAST       (1.0 / 8) // times what is known, or else assumed

// Options that were not chosen are tried while the link has something to do, for a share of the
// cycles that are spent.
#define TRIAL_PRESSURE (-0.5)
#define TRIAL_SHARE    (1.0 / 64)

// Cycles a byte of content that an option takes now.
static double cycles_of(const struct choose *c, const struct choose_cost *o)
{
	return o->cycles * c->slow;
}

static void find_least(struct choose *c)
{
	c->least = 1e9;
	for (unsigned k = 0; k < CHOOSE_KINDS; k++)
		for (unsigned i = 1; i < c->n; i++) {
			const struct choose_cost *o = &c->cost[k][i];

			if (o->ratio < 1 && cycles_of(c, o) < c->least * (1 - o->ratio))
				c->least = cycles_of(c, o) / (1 - o->ratio);
		}
}

void choose_init(
	struct choose *c, const struct choose_cost *assumed, unsigned n, uint64_t buffer_bytes)
{
	memset(c, 0, sizeof(*c));
	c->n = n;
	c->slow = 1;
	c->other_cycles = OTHER;
	c->buffer_bytes = (double)buffer_bytes;
	c->enough_bytes = CHOOSE_FIRST_BYTES;
	for (unsigned k = 0; k < CHOOSE_KINDS; k++) {
		memcpy(c->cost[k], assumed, n * sizeof(*assumed));
		c->mix[k] = 1.0 / CHOOSE_KINDS;
	}
	find_least(c);
	c->price = c->least / 2;
}

void choose_placed(struct choose *c, unsigned option, size_t bytes)
{
	c->placed_cycles += c->cost[0][option].decode * (double)bytes;
}

// Cycles a byte of content that the slowest of core, wire and target takes for it.
static double slowest(const struct choose *c, const struct choose_cost *o)
{
	double on_wire = c->drain > 0 ? o->ratio / c->drain : 0;
	double most = on_wire > cycles_of(c, o) ? on_wire : cycles_of(c, o);

	return most > c->times * o->decode ? most : c->times * o->decode;
}

// Options, a bit each: as long as the target takes for this one, another would take all in all.
static unsigned allowed(const struct choose *c, const struct choose_cost *o)
{
	double least = slowest(c, &o[0]);
	unsigned may = 1;

	for (unsigned i = 1; i < c->n; i++)
		if (slowest(c, &o[i]) < least)
			least = slowest(c, &o[i]);
	for (unsigned i = 1; i < c->n; i++)
		if (c->times * o[i].decode <= least)
			may |= 1u << i;
	return may;
}

// Whether the wire would take longer for the mix than the core, where a byte less is worth so much.
static bool wire_is_slower(const struct choose *c, const unsigned may[CHOOSE_KINDS], double price)
{
	double core = c->other_cycles, bytes = 0;

	for (unsigned k = 0; k < CHOOSE_KINDS; k++) {
		const struct choose_cost *o = c->cost[k], *found = o;

		for (unsigned i = 1; i < c->n; i++)
			if ((may[k] & 1u << i) != 0 &&
				cycles_of(c, &o[i]) + price * o[i].ratio <
					cycles_of(c, found) + price * found->ratio)
				found = &o[i];
		core += c->mix[k] * cycles_of(c, found);
		bytes += c->mix[k] * found->ratio;
	}
	return bytes > core * c->drain;
}

// The least price at which the wire does not take longer than the core, about.
static double find_price(const struct choose *c)
{
	double low = c->least / 2, most = c->least * PRICE_MOST, high;
	unsigned may[CHOOSE_KINDS];

	for (unsigned k = 0; k < CHOOSE_KINDS; k++)
		may[k] = allowed(c, c->cost[k]);
	while (low < most && wire_is_slower(c, may, low))
		low *= 2;
	high = low;
	low /= 2;
	for (unsigned i = 0; i < PRICE_STEPS; i++) {
		double middle = (low + high) / 2;

		if (wire_is_slower(c, may, middle))
			low = middle;
		else
			high = middle;
	}
	return high;
}

static void reckon(struct choose *c)
{
	double price = find_price(c), weight = 1 / (1 + c->priced / 2.0);

	// Where core and wire take as long for one option, what is reckoned jumps, at the least
	// change, between the price at which that begins to be the best and the one at which it
	// ends: what lies between them is right.
	if (price < c->price && c->link.pressure < HUNGRY)
		c->price = price;
	weight = weight > PRICE_WEIGHT ? weight : PRICE_WEIGHT;
	c->price += weight * c->price * (price - c->price) / (price + c->price);
	c->priced++;
}

// What the link holds is there to be used: the price is moved little before it is about to be idle,
// or full.
static double price_now(const struct choose *c)
{
	double p = c->link.pressure;

	p *= AT_ONCE * (p < 0 ? -p : p);
	return c->price * (1 + p) / (1 - p);
}

bool choose_look(struct choose *c, const struct choose_link *l)
{
	choose_follow(c, l);
	if (c->drain > 0 && l->now_cycles - c->priced_cycles >= PRICE_CYCLES) {
		c->priced_cycles = l->now_cycles;
		reckon(c);
	}
	return price_now(c) >= c->least;
}

// Bytes of the link that an option takes. What the link holds lasts for a while; an option that
// takes longer costs what could have left it meanwhile.
static double wire(const struct choose *c, const struct choose_cost *o, double bytes)
{
	double idle_bytes = c->drain * cycles_of(c, o) * bytes - c->held_bytes;

	return o->ratio * bytes + (idle_bytes > 0 ? idle_bytes : 0);
}

static double cost(const struct choose *c, const struct choose_cost *o, double bytes)
{
	return cycles_of(c, o) * bytes + price_now(c) * wire(c, o, bytes);
}

static unsigned best(
	const struct choose *c, const struct choose_cost *o, unsigned may, double bytes)
{
	unsigned found = 0;

	for (unsigned i = 1; i < c->n; i++)
		if ((may & 1u << i) != 0 && cost(c, &o[i], bytes) < cost(c, &o[found], bytes))
			found = i;
	return found;
}

// The next option that there are cycles to try, or the one chosen. One that is known to take more
// cycles than the chosen and its bytes are worth can't be better, whatever it makes of them.
static unsigned trial(
	struct choose *c, const struct choose_cost *o, unsigned may, unsigned chosen, double bytes)
{
	unsigned i = c->trial_option % (c->n - 1) + 1;
	double cycles = cycles_of(c, &o[i]) * bytes;

	if ((may & 1u << i) == 0 ||
		(o[i].seen > SEEN_WELL && cycles > cost(c, &o[chosen], bytes))) {
		c->trial_option = i;
		return chosen;
	}
	if (i != chosen && cycles > c->trial_cycles)
		return chosen;
	c->trial_option = i;
	if (i != chosen)
		c->trial_cycles -= cycles;
	return i;
}

unsigned choose_pick(struct choose *c, unsigned kind, size_t bytes)
{
	const struct choose_cost *o = c->cost[kind];
	unsigned may = allowed(c, o), i = best(c, o, may, (double)bytes);

	for (unsigned k = 0; k < CHOOSE_KINDS; k++)
		c->mix[k] += MIX_WEIGHT * ((k == kind) - c->mix[k]);
	c->frame_bytes = o[i].ratio * (double)bytes;
	if (c->link.pressure < TRIAL_PRESSURE || c->n < 2)
		return i;
	return trial(c, o, may, i, (double)bytes);
}

// What was not seen of a kind is taken to be as much better or worse than assumed as the first that
// was.
static void guess_ratios(struct choose *c, unsigned kind, unsigned option, double times)
{
	struct choose_cost *o = c->cost[kind];

	for (unsigned i = 1; i < c->n; i++)
		if (o[i].seen > 0)
			return;
	for (unsigned i = 1; i < c->n; i++)
		if (i != option)
			o[i].ratio = o[i].ratio * times < 1 ? o[i].ratio * times : 1;
}

void choose_learn(struct choose *c, unsigned kind, unsigned option, size_t in_bytes,
	size_t out_bytes, uint64_t cycles)
{
	struct choose_cost *o = &c->cost[kind][option];
	double ratio = (double)out_bytes / (double)in_bytes;
	double times = (double)cycles / (double)in_bytes / cycles_of(c, o);
	double weight = 1.0 / (1 + o->seen / 2.0);

	guess_ratios(c, kind, option, ratio / o->ratio);
	times = times < OUTLIER ? times : OUTLIER;
	times = times > LEAST ? times : LEAST;
	// The core is slower while others use what it shares, whatever it encodes by.
	if (o->seen > SEEN_WELL)
		c->slow += SLOW_WEIGHT * (times - 1) * c->slow;
	o->cycles += (times < 1 && o->seen < SEEN_WELL ? 1 : weight) * (times - 1) * o->cycles;
	weight = weight > CHOOSE_WEIGHT ? weight : CHOOSE_WEIGHT;
	o->ratio += weight * (ratio - o->ratio);
	o->seen += o->seen < SEEN_MOST;
	c->trial_cycles += (double)cycles * TRIAL_SHARE;
	find_least(c);
}
