// SPDX-License-Identifier: BSD-3-Clause
// --prepare: both daemons are ready, what the guest has populated is mapped here, and nothing of
// the guest was touched. Copying begins when the operator says so. Control loop only.
//
// Mapping is what polling cores pay for otherwise, a page fault for each 64 KiB. Helper threads
// read no byte of the memory and leave holes alone: reading a hole would allocate it.

#include "session_impl.h"

#include <errno.h>

json_t *source_flows_tell(struct session *s, json_t *msg)
{
	if (s->opt.prepare)
		json_object_set_new(
			msg, "populated_bytes", json_integer((json_int_t)s->fig.populated_bytes));
	return msg;
}

static void go_on(struct session *s)
{
	struct err e;

	/* The guest ran on: the target books what came since, or refuses. */
	if (source_count_populated(s, &e) < 0) {
		session_fail(s, &e);
		return;
	}
	s->readying = false;
	session_set_state(s, SESSION_PREPARING);
	s->fig.began_ns = clock_ns(); /* the report is of the migration, not of the wait */
	stage_done(s);
}

void source_ready(struct session *s)
{
	struct err e;

	if (!s->opt.prepare) {
		stage_done(s);
		return;
	}
	if (populate_start(&s->populating, &s->vmm->map, POPULATE_MAP_DATA, &e) < 0) {
		session_fail(s, &e);
		return;
	}
	s->readying = true;
	event_del(s->deadline);
	session_tick_every(s, 0);
}

void source_ready_tick(struct session *s)
{
	struct err e;
	int rc = s->populating == NULL ? 1 : populate_ready(s->populating, &e);

	if (rc == 0) {
		session_tick_every(s, 1000);
		return;
	}
	populate_free(s->populating);
	s->populating = NULL;
	if (rc < 0)
		session_fail(s, &e);
	else if (s->begin_now)
		go_on(s);
	else
		session_set_state(s, SESSION_READY);
}

int session_begin(struct session *s, struct err *e)
{
	if (!s->source)
		return err_set(e, ENOTSUP,
			"session %s is the receiving side; ask the source's daemon", s->name);
	if (!s->opt.prepare)
		return err_set(e, EINVAL,
			"session %s does not wait to begin: it was started without --prepare",
			s->name);
	if (s->begin_now || session_over(s))
		return err_set(e, EALREADY, "session %s has %s", s->name,
			session_over(s) ? "ended" : "begun");
	s->begin_now = true;
	if (s->state == SESSION_READY)
		go_on(s);
	return 0;
}
