// SPDX-License-Identifier: BSD-3-Clause
// When to pause the guest and finish. Pure: the same facts give the same answer. Run by the
// control loop.

#include "converge.h"

#include "clock.h"

/* What a flow does at least (about 1 Gbit/s), for a guest so idle that no pass could tell. */
#define ASSUMED_PAGES_PER_S 30000u
#define FORECAST_PASSES     100u /* more is never */
#define STUCK_PASSES        2u   /* so many that do not converge, before the guest is slowed */

static uint64_t expected_pause(const struct converge_facts *f)
{
	uint64_t rate = f->pages_per_s ? f->pages_per_s : ASSUMED_PAGES_PER_S;
	unsigned __int128 ns = (unsigned __int128)f->dirty_pages * NS_PER_S / rate + f->overhead_ns;

	return ns > UINT64_MAX ? UINT64_MAX : (uint64_t)ns;
}

static bool limit_reached(const struct converge_limits *l, const struct converge_facts *f)
{
	return (l->max_passes != 0 && f->passes >= l->max_passes) ||
	       (l->max_time_ns != 0 && f->elapsed_ns >= l->max_time_ns);
}

static struct converge_decision timed_out(
	const struct converge_limits *l, uint64_t pause_ns, const char *abort, const char *pause)
{
	if (l->on_timeout == CONVERGE_PAUSE)
		return (struct converge_decision){CONVERGE_SWITCH, pause_ns, pause};
	return (struct converge_decision){CONVERGE_GIVE_UP, pause_ns, abort};
}

struct converge_decision converge_decide(
	const struct converge_limits *l, const struct converge_facts *f)
{
	uint64_t ns = expected_pause(f);

	/* Pass 0 walks all that is populated; until then dirty_pages says nothing of the guest. */
	if (f->passes == 0)
		return (struct converge_decision){CONVERGE_GO_ON, ns, "first pass"};
	if (ns <= l->downtime_ns && (!f->untold || limit_reached(l, f)))
		return (struct converge_decision){
			CONVERGE_SWITCH, ns, "the expected pause is within the downtime limit"};
	if (l->max_passes != 0 && f->passes >= l->max_passes)
		return timed_out(l, ns,
			"the guest writes faster than it is sent, and --max-passes is reached",
			"--max-passes is reached, pausing as --on-timeout says");
	if (l->max_time_ns != 0 && f->elapsed_ns >= l->max_time_ns)
		return timed_out(l, ns,
			"the guest writes faster than it is sent, and --max-time is reached",
			"--max-time is reached, pausing as --on-timeout says");
	if (ns <= l->downtime_ns)
		return (struct converge_decision){
			CONVERGE_GO_ON, ns, "the balloon's bitmap is still on its way"};
	if (f->overhead_ns > l->downtime_ns)
		return (struct converge_decision){CONVERGE_GO_ON, ns,
			"the downtime limit is shorter than a pause with nothing left to send"};
	return (struct converge_decision){
		CONVERGE_GO_ON, ns, "the expected pause is longer than the downtime limit"};
}

/* A pass converges that has less to send than three quarters of what the one before had: what the
 * guest wrote meanwhile is what was sent, less that. */
static bool converges(uint64_t before, uint64_t now)
{
	return before == 0 || now < before - before / 4;
}

bool converge_throttle(struct converge_throttle *t, unsigned least, const struct converge_limits *l,
	const struct converge_facts *f)
{
	uint64_t before = t->dirty_pages;
	unsigned next = t->percent * 3 / 4;

	t->dirty_pages = f->dirty_pages;
	/* Fewer writes do not help where it would end now, or the pause itself is too long. */
	if (f->passes == 0 || limit_reached(l, f) || f->overhead_ns > l->downtime_ns ||
		expected_pause(f) <= l->downtime_ns || converges(before, f->dirty_pages)) {
		t->stuck = 0;
		return false;
	}
	/* Once it is slowed, each pass shows what that was worth. */
	t->stuck++;
	if (t->percent <= least || (t->percent == 100 && t->stuck < STUCK_PASSES))
		return false;
	t->percent = next > least ? next : least;
	t->stuck = 0;
	return true;
}

static uint64_t whole_ns(double s)
{
	return s < 1e9 ? (uint64_t)(s * 1e9) : UINT64_MAX; /* thirty years are never */
}

struct converge_forecast converge_forecast(
	const struct converge_limits *l, const struct converge_pace *p)
{
	struct converge_forecast f = {UINT64_MAX, UINT64_MAX, UINT64_MAX};
	double pass_s, all_s, dirty;

	if (p->pages_per_s < 1)
		return f;
	pass_s = (double)p->pages_left / p->pages_per_s;
	f.pass_ns = whole_ns(pass_s);
	if (!p->dirty_known)
		return f;
	all_s = pass_s;
	/* What was written during a pass is what the next one has to send. */
	for (unsigned pass = 0; pass < FORECAST_PASSES; pass++) {
		double pause_s;

		dirty = p->dirty_per_s * pass_s;
		pass_s = dirty / p->pages_per_s;
		pause_s = pass_s + (double)p->overhead_ns / 1e9;
		if (pause_s * 1e9 <= (double)l->downtime_ns) {
			f.pause_ns = whole_ns(pause_s);
			f.end_ns = whole_ns(all_s + pause_s);
			return f;
		}
		all_s += pass_s;
	}
	return f;
}
