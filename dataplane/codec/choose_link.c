// SPDX-License-Identifier: BSD-3-Clause
// What the choice of a codec knows of the way: how fast the link drains, how long what it holds
// lasts, what the core does beside encoding, and how long the target takes. Run by the source's
// polling core, once a frame.
//
// Invariant: a link that gave way for long in lumps, or stood idle, is not taken for another: what
// it drains is learned from times when it surely had something.

#include "choose_impl.h"

// What drains is an average over so many cycles. Lumps are shorter: a kernel that shares the core
// hands on at a time what came in 10 ms.
#define DRAIN_CYCLES (double)(1u << 26)
#define LUMP_CYCLES  (double)(1u << 25)
// Of a link that does not tell: it is looked at so often, and may have become faster after so long.
#define FULL_CYCLES  (double)(1u << 21)
#define TAKES_CYCLES (double)(1u << 24)
#define RAISE        (1.0 / 4)  // weight of a rate that is above what is known
#define IDLE_RAISE   (1.0 / 8)  // added where the link had nothing for the length of a lump
#define TAKES_RAISE  (1.0 / 16) // the same, where it was not full for long
// A link that is so many times as fast as the core makes raw pages: more changes no choice.
#define FASTEST     2.0
#define OTHER_LEAST 0.05 // cycles a byte: no core does less beside encoding
// That is learned once in so much content, with this weight.
#define CORE_BYTES  (double)(2u << 20)
#define CORE_WEIGHT (1.0 / 4)
#define OTHER_RAISE (1.0 / 64)

// A link is to hold as much as it drains in this time: while a run of pages that give way well is
// encoded, it lives on that.
#define AHEAD_CYCLES (double)(1u << 24)
#define AHEAD_MOST   (double)(8u << 20)

// Busier than this, the target's core is what limits the flow. How long it takes is learned so
// often, in cycles: twice what it adds up over.
#define TARGET_FULL   0.95
#define TARGET_CYCLES (1u << 23)
#define TARGET_LONG   16.0        // times that: then it is not known what for it was busy
#define PROBE         (1.0 / 640) // of what the link takes, while nothing is learned of it

// It can drain more than is known, perhaps so much.
static void raise_drain(struct choose *c, double to)
{
	double most = FASTEST / c->other_cycles;

	to = to < most ? to : most;
	c->drain = c->drain < to ? to : c->drain;
}

// Whether what the link held at the last look lasted for these cycles. Where that was not to be
// foreseen either, it is not told by how much has left: that would leave out when it drained fast.
static bool lasted(const struct choose *c, double cycles, double left)
{
	double held = c->told.held_bytes;

	return left < held * 0.9 || (left < held * 0.99 && c->drain * cycles < held * 0.7);
}

// What has left the link while it had something all the time is what it drains: frames waited
// for it, or for the pace that it is held to, or what it held at one look lasted until the next.
// Where the target held it up, that says nothing. Else it could have drained more.
static void follow_told(struct choose *c, const struct choose_link *l)
{
	double cycles = (double)(l->told_cycles - c->told.told_cycles);
	double whole = (double)(l->told_cycles - c->left.told_cycles);
	double left = (double)(l->left_bytes - c->told.left_bytes), rate;
	bool paced = l->pressure > 0 && c->told.pressure > 0;
	bool backlog = paced || (l->waiting && c->told.waiting) || lasted(c, cycles, left);

	c->held_bytes = l->held_bytes;
	if (paced && c->held_bytes < c->buffer_bytes)
		c->held_bytes = c->buffer_bytes;
	if (c->told.told_cycles == 0)
		c->left = c->told = *l;
	if (l->told_cycles == c->told.told_cycles)
		return;
	c->told = *l;
	if (backlog && l->target_busy < TARGET_FULL) {
		c->drained_cycles += cycles;
		c->drain += (left - c->drain * cycles) / c->drained_cycles;
		if (c->drained_cycles > DRAIN_CYCLES)
			c->drained_cycles = DRAIN_CYCLES;
	} else if (c->drained_cycles < LUMP_CYCLES && left > c->drain * cycles) {
		raise_drain(c, c->drain + RAISE * (left / cycles - c->drain));
	}
	c->backlog |= backlog;
	if (whole < LUMP_CYCLES)
		return;
	rate = (double)(l->left_bytes - c->left.left_bytes) / whole;
	if (rate > c->drain)
		raise_drain(c, c->drain + RAISE * (rate - c->drain));
	if (!c->backlog)
		raise_drain(c, c->drain + IDLE_RAISE * c->drain);
	c->left = *l;
	c->backlog = false;
}

// The same for a link that does not tell: what it took between two times when it was full has left
// it. One that has not been full for long may have become faster.
static void follow_silent(struct choose *c, const struct choose_link *l)
{
	double cycles = (double)(l->now_cycles - c->link.now_cycles);
	double whole = (double)(l->now_cycles - c->left.now_cycles), rate;

	if (c->link.now_cycles != 0)
		c->held_bytes += (double)(l->sent_bytes - c->link.sent_bytes) - c->drain * cycles;
	if (c->held_bytes < 0)
		c->held_bytes = 0;
	if (l->pressure <= 0) {
		if (whole > TAKES_CYCLES) {
			raise_drain(c, c->drain + TAKES_RAISE * c->drain);
			c->left = *l;
			c->backlog = false;
		}
		return;
	}
	c->held_bytes = c->buffer_bytes + c->frame_bytes; // one waits, at least
	if (c->backlog && whole < FULL_CYCLES)
		return;
	rate = (double)(l->sent_bytes - c->left.sent_bytes) / whole;
	if (c->backlog && (l->target_busy < TARGET_FULL || rate > c->drain))
		c->drain += (c->drain == 0 ? 1 : RAISE) * (rate - c->drain);
	c->left = *l;
	c->backlog = true;
}

// From -1, it is about to be idle, to 1. The last frame has only just come to what it holds.
static double pressure_told(struct choose *c, const struct choose_link *l)
{
	double held = l->held_bytes - c->frame_bytes, ahead = c->drain * AHEAD_CYCLES, p;

	c->enough_bytes = c->drain == 0 ? CHOOSE_FIRST_BYTES : c->buffer_bytes / 2;
	ahead = ahead < AHEAD_MOST ? ahead : AHEAD_MOST;
	if (c->enough_bytes < ahead)
		c->enough_bytes = ahead;
	p = held > 0 ? held / c->enough_bytes - 1 : -1;
	if (l->waited || p > 1) // buffers are full, perhaps of less
		p = 1;
	return p > l->pressure ? p : l->pressure;
}

static double pressure_silent(const struct choose *c, const struct choose_link *l)
{
	double enough = c->buffer_bytes + c->frame_bytes, p;

	if (enough == 0 || c->drain == 0)
		return l->pressure;
	p = c->held_bytes > 0 ? c->held_bytes / enough - 1 : -1;
	p = p < 0 ? p : 0;
	return p > l->pressure ? p : l->pressure;
}

bool choose_full(const struct choose *c, double held_bytes)
{
	return held_bytes >= 2 * c->enough_bytes;
}

// What the core does beside encoding, a byte of content.
static void follow_core(struct choose *c, const struct choose_link *l)
{
	double bytes = (double)(l->content_bytes - c->core.content_bytes);
	double other = (double)(l->busy_cycles - c->core.busy_cycles) / bytes;

	if (l->waited) { // it looks for room all the time, which is no work
		c->core = *l;
		return;
	}
	if (bytes < CORE_BYTES)
		return;
	if (other > 2 * c->other_cycles) // the core was away, or it takes longer from now on
		other = c->other_cycles * (1 + OTHER_RAISE / CORE_WEIGHT);
	if (c->core.now_cycles != 0)
		c->other_cycles += CORE_WEIGHT * (other - c->other_cycles);
	if (c->other_cycles < OTHER_LEAST)
		c->other_cycles = OTHER_LEAST;
	c->core = *l;
}

// What the target's core did since the last time was for the frames that it answered meanwhile. And
// what the link took while the target was the slower of the two, it can take.
static void follow_target(struct choose *c, const struct choose_link *l)
{
	double cycles = (double)(l->now_cycles - c->target.now_cycles);
	double expected = c->placed_cycles, rate;

	if (cycles < TARGET_CYCLES)
		return;
	if (cycles > TARGET_LONG * TARGET_CYCLES) { // nothing was sent meanwhile
		c->placed_cycles = 0;
		c->target = *l;
		return;
	}
	rate = (double)(l->held_bytes < 0 ? l->sent_bytes - c->target.sent_bytes
					  : l->left_bytes - c->target.left_bytes);
	rate /= cycles;
	c->placed_cycles = 0;
	if (c->target.now_cycles != 0 && expected > 0 && l->target_busy > 0)
		c->times += (c->times == 0 ? 1 : CHOOSE_WEIGHT) *
			    (l->target_busy * cycles / expected - c->times);
	if (c->target.now_cycles != 0 && l->target_busy > TARGET_FULL && c->drain > 0)
		raise_drain(c, c->drain + (rate > c->drain ? CHOOSE_WEIGHT * (rate - c->drain)
							   : PROBE * c->drain));
	c->target = *l;
}

void choose_follow(struct choose *c, const struct choose_link *l)
{
	follow_core(c, l);
	follow_target(c, l);
	if (l->held_bytes >= 0)
		follow_told(c, l);
	else
		follow_silent(c, l);
	c->link = *l;
	c->link.pressure = l->held_bytes >= 0 ? pressure_told(c, l) : pressure_silent(c, l);
}
