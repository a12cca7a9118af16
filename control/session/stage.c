// SPDX-License-Identifier: BSD-3-Clause
// The stages of a session, in order: one table for both sides. The source walks it; a stage that
// needs the target sends a request of the stage's name, which the target takes only in this order.

#include "session_impl.h"

#include <errno.h>
#include <string.h>

const struct stage stage_table[] = {
	/* name, state, source, target, undo, deadline in ms, and more of it for each GiB */
	{"vmm", SESSION_PREPARING, source_vmm, NULL, NULL, 30000},
	{"hello", SESSION_PREPARING, source_connect, NULL, NULL, 30000},
	{"preflight", SESSION_PREPARING, source_preflight, target_preflight, NULL, 30000},
	/* The target may populate terabytes; the guest runs meanwhile. */
	{"prepare", SESSION_PREPARING, source_prepare, target_prepare, NULL, 120000, 4000},
	{"flows", SESSION_PREPARING, source_flows, target_flows, NULL, 30000},
	{"track", SESSION_PREPARING, source_track, NULL, source_track_undo, 60000},
	{"copy", SESSION_COPYING, precopy_live, NULL, NULL, 0},
	{"pause", SESSION_SWITCHING, source_pause, NULL, source_pause_undo, 30000},
	{"last", SESSION_SWITCHING, precopy_last, NULL, NULL, 0},
	{"save", SESSION_SWITCHING, source_save, target_save, NULL, 60000},
	{"late", SESSION_SWITCHING, precopy_late, NULL, NULL, 0},
	/* Digests of terabytes; a target that tells none must not keep the guest paused. */
	{"verify", SESSION_SWITCHING, source_verify, target_verify, NULL, 60000, 4000},
	{"load", SESSION_SWITCHING, source_load, target_load, NULL, 60000},
	{"commit", SESSION_COMMITTING, handover_commit, handover_taken, NULL, 30000},
	{"finish", SESSION_COMMITTING, handover_finish, NULL, NULL, 30000},
};
const unsigned stage_count = sizeof(stage_table) / sizeof(stage_table[0]);

unsigned stage_find(const char *name)
{
	unsigned i;

	for (i = 0; i < stage_count; i++)
		if (strcmp(stage_table[i].name, name) == 0)
			break;
	return i;
}

uint64_t stage_deadline_ms(const struct stage *st, uint64_t guest_bytes)
{
	return st->deadline_ms + st->deadline_ms_gib * (guest_bytes >> 30);
}

void stage_begin(struct session *s, unsigned stage)
{
	const struct stage *st = &stage_table[stage];

	s->stage = stage;
	s->stage_ns = clock_ns();
	session_set_state(s, st->state);
	event_del(s->deadline);
	if (st->deadline_ms != 0) {
		uint64_t ms = stage_deadline_ms(st, s->vmm != NULL ? s->vmm->map.bytes : 0);
		struct timeval tv = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000) * 1000};

		s->deadline_s = ms / 1000;
		event_add(s->deadline, &tv);
	}
	log_debug(s->name, "stage %s", st->name);
	if (!plant_stage(s))
		st->source(s);
}

void stage_tell(struct session *s)
{
	double ms = (double)(clock_ns() - s->stage_ns) / 1e6;

	log_info(s->name, "stage=%s side=%s ms=%.3f", stage_table[s->stage].name,
		s->source ? "source" : "target", ms);
	watch_emit(s, json_pack("{s:s, s:s, s:f}", "event", "stage", "stage",
			      stage_table[s->stage].name, "ms", ms));
}

void stage_done(struct session *s)
{
	if (s->state == SESSION_ENDING || s->state == SESSION_ENDED)
		return;
	stage_tell(s);
	if (s->stage + 1 == stage_count)
		session_end(s, RESULT_DONE, NULL);
	else
		stage_begin(s, s->stage + 1);
}

void stage_undo(struct session *s)
{
	/* Each knows whether there is anything: a session that was resumed is at an earlier stage
	 * than it was. */
	for (unsigned i = stage_count; i-- > 0;)
		if (stage_table[i].undo != NULL)
			stage_table[i].undo(s);
}
