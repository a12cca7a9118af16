// SPDX-License-Identifier: BSD-3-Clause
// Words with a VMM that has no session. Run by a thread of aside.h, so it touches no session and
// does not log. Nothing is done to a VMM whose state is not known.

#include "settle.h"

#include <errno.h>

#include "godwit.h"
#include "vmm.h"

#define ONCE_MS 1000 /* for the VMM to answer; it was idle, so it answers at once or not at all */

static const char *state_name(unsigned state)
{
	static const char *const names[] = {
		"running", "paused", "fenced", "incoming", "loaded", "ended"};

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

const char *settle_here(const struct settle *s)
{
	return s->found == 0 ? state_name(s->state) : "gone, or not answering";
}

static int once(struct settle *s, uint16_t type, uint64_t a, struct err *e)
{
	struct vmm_word word = {.type = type, .a = a, .direct = s->direct, .timeout_ms = ONCE_MS};
	int rc = vmm_once(&s->where, &word, e);

	if (type == AGENT_HELLO)
		s->state = word.state;
	s->warn = word.warn;
	return rc;
}

/* The guest is as it is to be; its disks may not be. */
static int put_back(struct settle *s)
{
	return s->source && s->direct != NULL ? once(s, AGENT_TRACK_STOP, 0, &s->why) : 0;
}

static int keep(struct settle *s)
{
	if (s->found < 0)
		return s->found;
	if (s->state == GODWIT_RUNNING || s->stays_paused)
		return put_back(s);
	if (!s->source)
		return err_set(&s->why, ENOTSUP, "the VMM here is %s and has no guest to keep",
			state_name(s->state));
	return once(s, AGENT_RESUME, 1, &s->why);
}

static int end(struct settle *s)
{
	/* No answer is not gone: it may run the guest. */
	if (s->found < 0)
		return s->found == -ENOENT || s->found == -ECONNREFUSED || s->found == -EPIPE
			       ? 0
			       : s->found;
	if (s->state == GODWIT_RUNNING)
		return err_set(&s->why, EBUSY,
			"the VMM here runs the guest; end it yourself if that is what you want");
	return s->state == GODWIT_ENDED ? 0 : once(s, AGENT_END, 0, &s->why);
}

void settle_run(struct settle *s)
{
	struct err e;

	s->status = 0;
	if (s->what == SETTLE_NOTHING)
		return;
	s->found = once(s, AGENT_HELLO, 0, &s->why);
	if (s->what == SETTLE_KEEP)
		s->status = keep(s);
	else if (s->what == SETTLE_END)
		s->status = end(s);
	else if (s->what == SETTLE_FIND && s->found == 0 && s->state == GODWIT_RUNNING)
		s->status = put_back(s);
	else if (s->what == SETTLE_GONE && s->source && s->found == 0 && s->state != GODWIT_RUNNING)
		(void)once(s, AGENT_END, 0, &e);
}
