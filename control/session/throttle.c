// SPDX-License-Identifier: BSD-3-Clause
// The guest's vCPUs get less of their time while passes do not converge, where the operator said
// how little that may be. How much less is decided in converge.c; here it is asked of the VMM,
// told, and taken back. Run by the control loop. Invariant: vCPUs have all of their time when the
// session ends or waits for a network. libgodwit sees to that too, when its socket is closed,
// however the daemon ends.

#include "throttle.h"

#include "clock.h"
#include "session_impl.h"

static void tell(struct session *s, const char *reason)
{
	log_info(s->name, "the guest's vCPUs have %u %% of their time: %s", s->throttle.percent,
		reason);
	watch_emit(s, json_pack("{s:s, s:i, s:s, s:f}", "event", "throttle", "percent",
			      (int)s->throttle.percent, "reason", reason, "elapsed_ms",
			      (double)(clock_ns() - s->fig.began_ns) / 1e6));
}

static void on_tried(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;

	if (session_over(s))
		return;
	if (a->status < 0)
		session_failf(s, a->why.errnum, "%.300s; migrate without --throttle", a->why.text);
	else
		stage_done(s);
}

void throttle_try(struct session *s)
{
	if (s->opt.throttle_percent < 100)
		vmm_ask(s->vmm, AGENT_THROTTLE, 100, 0, -1, on_tried, s);
	else
		stage_done(s);
}

static void on_throttled(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;

	if (!session_over(s) && a->status < 0)
		session_fail(s, &a->why);
}

void throttle_decide(
	struct session *s, const struct converge_limits *l, const struct converge_facts *f)
{
	/* With --hold it waits for the operator, not for its passes. */
	if (s->opt.hold || s->switch_now ||
		!converge_throttle(&s->throttle, s->opt.throttle_percent, l, f))
		return;
	s->throttle_least = s->throttle.percent;
	tell(s, "it writes as fast as it is sent");
	vmm_ask(s->vmm, AGENT_THROTTLE, s->throttle.percent, 0, -1, on_throttled, s);
}

static void on_lifted(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;

	if (s->undoing > 0)
		s->undoing--;
	if (a->status < 0)
		log_warn(s->name, "the throttle is lifted when the VMM is let go of: %s",
			a->why.text);
}

void throttle_lift(struct session *s)
{
	bool slowed = s->throttle.percent < 100;

	s->throttle = (struct converge_throttle){.percent = 100};
	if (!slowed)
		return;
	tell(s, "nothing is copied now");
	s->undoing++;
	vmm_ask(s->vmm, AGENT_THROTTLE, 100, 0, -1, on_lifted, s);
}
