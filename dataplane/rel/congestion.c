// SPDX-License-Identifier: BSD-3-Clause
// The window of a flow. Run by the source's polling core.
//
// Invariants: the window is at least four packets, so that a loss can be seen by what comes after
// it, and never above most_bytes. It grows only in rounds in which it held something back.

#include "congestion.h"

#include <string.h>

#define LEAST_PACKETS     4u
#define FIRST_PACKETS     16u
#define PERIOD_NS         UINT64_C(5000000000) // the base is the least of one or two of them
#define SAMPLE_PACKETS    256u                 // enough to tell 10 % from 15 %
#define SAMPLE_HEAVY      64u                  // enough to tell 15 % from 30 %
#define SAMPLE_LEAST      16u
#define LOSS_PARTS        100u
#define LOSS_CONGESTION   15u // parts of a hundred, whatever the queue is
#define LOSS_WITH_QUEUE   2u  // parts of a hundred, while a queue stands
#define LOSS_HEAVY        30u // parts of a hundred
#define QUEUE_STANDS_PART 8u  // of the target
#define FULL_ROUNDS       16u // without an empty queue, before it is drained
#define DRAIN_ROUNDS      3u  // one to let it run empty, two to see it; they are short then
#define JOIN_ROUNDS       4u  // a queue that stood so long and is gone was drained by others
#define LONG_PATH_NS      8e6 // a round of this length grows twice as fast: flows meet in time
#define LONG_PATH_MOST    4.0
#define SCALE_QUARTERS    16u // of a target, by the root of the window in packets
#define SCALE_MOST        2u  // targets
#define BETA_TENTHS       8u  // Swift's
#define MOST_DECREASE     2u  // Swift's max_mdf: to a half, at most

static uint64_t least_window(const struct congestion *c)
{
	return LEAST_PACKETS * c->mss_bytes;
}

static void set_window(struct congestion *c, uint64_t bytes)
{
	if (bytes < c->window_bytes / MOST_DECREASE)
		bytes = c->window_bytes / MOST_DECREASE;
	if (bytes > c->most_bytes)
		bytes = c->most_bytes;
	c->window_bytes = bytes < least_window(c) ? least_window(c) : bytes;
}

void congestion_init(struct congestion *c, uint64_t target_ns, uint64_t first_rtt_ns,
	uint64_t mss_bytes, uint64_t most_bytes)
{
	memset(c, 0, sizeof(*c));
	c->target_ns = target_ns;
	c->mss_bytes = mss_bytes;
	c->most_bytes = most_bytes;
	c->slow_start = true;
	c->srtt_ns = c->whole_ns = c->latest_ns = first_rtt_ns;
	c->var_ns = first_rtt_ns / 2;
	c->base_ns = c->period_ns = UINT64_MAX;
	c->least_ns = UINT64_MAX;
	set_window(c, FIRST_PACKETS * mss_bytes);
}

static void drain(struct congestion *c, uint64_t queue_ns)
{
	c->full_rounds = 0;
	c->draining = DRAIN_ROUNDS;
	c->drain_bytes = (uint64_t)((double)c->window_bytes * 0.75 * (double)c->base_ns /
				    (double)(c->base_ns + queue_ns));
	if (c->drain_bytes < c->mss_bytes)
		c->drain_bytes = c->mss_bytes;
}

// A queue that stood and is gone was drained by others: at once, as long as they wait.
static void join(struct congestion *c, uint64_t rtt_ns)
{
	if (c->full_rounds < JOIN_ROUNDS || c->draining > 0 || c->slow_start)
		return;
	if (rtt_ns - c->base_ns <= c->target_ns / QUEUE_STANDS_PART)
		drain(c, c->queue_ns);
}

// RFC 6298.
static void time_whole(struct congestion *c, uint64_t rtt_ns)
{
	uint64_t off = rtt_ns > c->whole_ns ? rtt_ns - c->whole_ns : c->whole_ns - rtt_ns;

	c->latest_ns = rtt_ns;
	if (!c->measured) {
		c->whole_ns = rtt_ns;
		c->var_ns = rtt_ns / 2;
		return;
	}
	c->var_ns = (3 * c->var_ns + off) / 4;
	c->whole_ns = (7 * c->whole_ns + rtt_ns) / 8;
}

void congestion_sample(struct congestion *c, uint64_t now_ns, uint64_t rtt_ns, uint64_t away_ns)
{
	time_whole(c, rtt_ns);
	if (!c->measured) {
		c->srtt_ns = rtt_ns;
		c->measured = true;
		c->period_began_ns = now_ns;
	}
	if (away_ns > rtt_ns / 2) {
		c->blind = true;
		// The network took no longer than that. A flow whose samples are all blind would
		// pace by a round trip of long ago, never fill its window, and never grow again.
		if (rtt_ns < c->srtt_ns)
			c->srtt_ns = (7 * c->srtt_ns + rtt_ns) / 8;
		return;
	}
	rtt_ns -= away_ns;
	c->srtt_ns = (7 * c->srtt_ns + rtt_ns) / 8;
	if (now_ns - c->period_began_ns > PERIOD_NS) {
		if (c->period_ns != UINT64_MAX)
			c->base_ns = c->period_ns;
		c->period_ns = UINT64_MAX;
		c->period_began_ns = now_ns;
	}
	if (rtt_ns < c->period_ns)
		c->period_ns = rtt_ns;
	if (rtt_ns < c->base_ns)
		c->base_ns = rtt_ns;
	if (rtt_ns < c->least_ns)
		c->least_ns = rtt_ns;
	join(c, rtt_ns);
}

void congestion_found(struct congestion *c)
{
	if (c->sample_lost > 0)
		c->sample_lost--;
	c->sample_acked++;
}

void congestion_collapse(struct congestion *c)
{
	c->window_bytes = least_window(c);
	c->slow_start = true;
	c->draining = 0;
	c->sample_acked = c->sample_lost = 0;
}

static uint64_t root(uint64_t n)
{
	uint64_t r = 0;

	for (uint64_t bit = UINT64_C(1) << 16; bit > 0; bit >>= 1)
		if ((r + bit) * (r + bit) <= n)
			r += bit;
	return r;
}

// Loss that is congestion, once enough packets were seen to tell. Where loss is heavy, or a queue
// says the same, few are enough; and as long as it looks like congestion, the window does not grow.
enum loss { LOSS_NONE, LOSS_HOLD, LOSS_SHRINK };

static enum loss judge_loss(struct congestion *c, bool queue)
{
	uint64_t all = c->sample_acked + c->sample_lost;
	uint64_t parts = (uint64_t)c->sample_lost * LOSS_PARTS;
	bool heavy = parts > LOSS_HEAVY * all;
	bool shrink = parts > (queue ? LOSS_WITH_QUEUE : LOSS_CONGESTION) * all;

	if (all < SAMPLE_LEAST)
		return LOSS_NONE;
	if (all < SAMPLE_PACKETS && !(queue && shrink) && !(heavy && all >= SAMPLE_HEAVY))
		return shrink ? LOSS_HOLD : LOSS_NONE;
	if (shrink) {
		c->slow_start = false;
		set_window(c, c->window_bytes * c->sample_acked / all);
	}
	c->sample_acked = c->sample_lost = 0;
	return shrink ? LOSS_SHRINK : LOSS_NONE;
}

// Swift's flow scaling: a small window bears more delay than a large one, so it grows where the
// other shrinks, and many flows on a slow wire, whose least windows alone fill it, stay calm.
static uint64_t target_of(const struct congestion *c)
{
	uint64_t sqrt16 = root(16 * c->window_bytes / c->mss_bytes); // four times the root
	uint64_t more = SCALE_QUARTERS * c->target_ns / (sqrt16 > 0 ? sqrt16 : 1);

	return c->target_ns + (more < SCALE_MOST * c->target_ns ? more : SCALE_MOST * c->target_ns);
}

static void shrink_by_delay(struct congestion *c, uint64_t queue_ns)
{
	uint64_t target = target_of(c);
	uint64_t excess = queue_ns > target ? queue_ns - target : 0;
	double part = (double)excess / (double)(c->base_ns + queue_ns);

	set_window(c, (uint64_t)((double)c->window_bytes * (1.0 - part * BETA_TENTHS / 10.0)));
}

static void grow(struct congestion *c)
{
	uint64_t packets = c->window_bytes / c->mss_bytes;
	uint64_t round_ns = c->blind ? c->whole_ns : c->base_ns;
	double longer = 1.0 + (double)round_ns / LONG_PATH_NS;

	if (!c->limited)
		return;
	if (longer > LONG_PATH_MOST)
		longer = LONG_PATH_MOST;
	if (c->slow_start)
		set_window(c, c->window_bytes * 2);
	else
		set_window(c, c->window_bytes +
				      (uint64_t)((double)(root(packets) * c->mss_bytes) * longer));
}

// All flows that share a queue begin this in the same round trip or nearly so, because they have
// seen the same queue. One that came late and takes a part of the queue for the path's own delay
// thinks that the queue is empty when only its own part is left: it joins, and sees the true base.
static void drain_if_due(struct congestion *c, uint64_t queue_ns)
{
	c->queue_ns = queue_ns;
	if (queue_ns <= c->target_ns / QUEUE_STANDS_PART || c->slow_start)
		c->full_rounds = 0;
	else if (++c->full_rounds >= FULL_ROUNDS)
		drain(c, queue_ns);
}

static void leave_slow_start(struct congestion *c, uint64_t queue_ns)
{
	// The window doubled in the round that filled the queue: take back what is too much for the
	// path with half a target of queue.
	c->slow_start = false;
	set_window(c, (uint64_t)((double)c->window_bytes * (double)(c->base_ns + c->target_ns / 2) /
				 (double)(c->base_ns + queue_ns)));
}

static void shrink_by_marks(struct congestion *c)
{
	uint32_t marked = c->marked < c->acked ? c->marked : c->acked;

	c->slow_start = false;
	set_window(c, c->window_bytes - c->window_bytes * marked / c->acked / 2);
}

static void decide(struct congestion *c)
{
	uint64_t queue = c->least_ns == UINT64_MAX ? 0 : c->least_ns - c->base_ns;
	enum loss loss;

	if (c->draining > 0) {
		c->draining--;
		return;
	}
	loss = judge_loss(c, queue > c->target_ns / QUEUE_STANDS_PART);
	if (c->slow_start && queue > c->target_ns / 2)
		leave_slow_start(c, queue);
	else if (c->marked > 0 && c->acked > 0)
		shrink_by_marks(c);
	else if (queue > target_of(c))
		shrink_by_delay(c, queue);
	else if (loss == LOSS_NONE)
		grow(c);
	drain_if_due(c, queue);
}

void congestion_round(struct congestion *c)
{
	if (c->least_ns != UINT64_MAX || c->blind)
		decide(c);
	c->blind = false;
	c->least_ns = UINT64_MAX;
	c->acked = c->marked = 0;
	c->limited = false;
}

uint64_t congestion_rate(const struct congestion *c)
{
	uint64_t quarters = c->slow_start ? 8 : 5;
	uint64_t rtt = c->srtt_ns > 0 ? c->srtt_ns : 1;

	return (uint64_t)((double)congestion_window(c) * (double)quarters / 4 * 1e9 / (double)rtt);
}
