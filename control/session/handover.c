// SPDX-License-Identifier: BSD-3-Clause
// The guest changes hands: law 6. Source: journal the commit and sync it, end the lease (fence),
// send the commit, wait for "running" or "refused". Until the fence the guest goes back by itself
// when this daemon dies; after it only an answer, or the operator, says whose it is. Target: take
// the guest over and say running, or make sure that it can't run here and say refused.

#include "session_impl.h"

#include "clock.h"
#include "godwit.h"
#include "plant.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KILL_MS 60000 /* for the process to end: that of a large guest takes seconds */

/* Source: the target does not run the guest, for sure. It goes on here. */
static void on_given_back(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;
	struct err why;

	if (session_over(s))
		return;
	watch_warn(s, a);
	if (a->status < 0 && vmm_ended(s->vmm)) {
		log_error(s->name, "the VMM here has ended too, and its guest with it: %s",
			a->why.text);
		s->why = a->why;
	} else if (a->status < 0 && a->leased && !s->fenced) {
		/* The commit was not sent, and never will be: the end of the lease resumes it. */
		why = s->why;
		err_set(&s->why, why.errnum,
			"%.200s. The guest goes on here as soon as its VMM does", why.text);
	} else if (a->status < 0) {
		/* It may be fenced, and stopped only for now: the journal keeps that in mind. */
		err_set(&why, a->why.errnum,
			"the guest is to go on here, but its VMM did not resume it (%.120s). Run "
			"`godwit "
			"resolve %s`",
			a->why.text, s->name);
		session_end(s, RESULT_UNDECIDED, &why);
		return;
	}
	s->fenced = false;
	s->paused = false;
	journal_end(s->journal);
	s->journal = NULL;
	session_end(s, RESULT_FAILED, &s->why);
}

void handover_give_back(struct session *s, const struct err *why)
{
	if (session_over(s) || s->giving_back)
		return;
	s->giving_back = true;
	s->why = *why;
	if (s->state == SESSION_UNDECIDED)
		session_set_state(s, SESSION_COMMITTING);
	event_del(s->deadline);
	vmm_ask(s->vmm, AGENT_RESUME, 1, 0, -1, on_given_back, s);
}

static void on_outcome(struct session *s, json_t *answer)
{
	char outcome[16], error[ERR_TEXT_BYTES];
	struct err e;

	if (session_over(s) || s->giving_back)
		return;
	if (s->state == SESSION_UNDECIDED)
		session_set_state(s, SESSION_COMMITTING);
	if (!peer_get_text(answer, "outcome", outcome, sizeof(outcome), &e)) {
		handover_silence(s, &e);
		return;
	}
	if (strcmp(outcome, "running") == 0) {
		s->fig.pause_ns = clock_ns() - s->fig.pause_began_ns - s->verify_took_ns;
		s->why.errnum = 0;
		stage_done(s);
		return;
	}
	if (strcmp(outcome, "refused") != 0) {
		err_set(&e, EPROTO,
			"the target answered the commit with neither running nor refused");
		handover_silence(s, &e);
		return;
	}
	if (!peer_get_text(answer, "error", error, sizeof(error), &e))
		strcpy(error, "no reason given");
	err_set(&e, ECONNREFUSED,
		"the target could not take the guest over and ended its VMM; the "
		"guest goes on at the source: %.160s",
		error);
	handover_give_back(s, &e);
}

static void on_fenced(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;

	if (session_over(s) || s->giving_back)
		return;
	if (a->status < 0) {
		/* The message has not gone out: nothing is promised to anybody. */
		handover_give_back(s, &a->why);
		return;
	}
	s->fenced = true;
	plant_step("fenced");
	if (s->conn == NULL) {
		struct err e;

		err_set(&e, ENOTCONN,
			"the target's daemon went away just before the commit; the "
			"guest goes on at the source");
		handover_give_back(s, &e);
		return;
	}
	peer_ask(s, json_pack("{s:b}", "paused", s->stays_paused), on_outcome);
}

int handover_begin(struct session *s, struct err *e)
{
	int rc = journal_open(&s->journal, s->host->state_dir, s->name, e);
	json_t *begin;

	if (rc < 0)
		return rc;
	/* Now, so that the pause has one sync of one record to wait for. */
	begin = json_pack("{s:s, s:s, s:s}", "is", "begin", "side", s->source ? "source" : "target",
		"to", s->opt.to);
	vmm_where_to_json(&s->where, begin);
	return journal_write(s->journal, begin, e);
}

void handover_commit(struct session *s)
{
	json_t *record = json_pack("{s:s, s:b}", "is", "commit", "paused", s->stays_paused);
	struct err e;

	if (s->vmm->direct != NULL) {
		json_decref(s->direct);
		s->direct = json_deep_copy(s->vmm->direct);
		json_object_set(record, "direct", s->direct);
	}
	if (journal_write(s->journal, record, &e) < 0) {
		handover_give_back(s, &e);
		return;
	}
	plant_step("journaled");
	if (plant(PLANT_LAW6_NO_FENCE)) {
		struct vmm_answer unasked = {.fd = -1};

		on_fenced(s, &unasked);
		return;
	}
	vmm_ask(s->vmm, AGENT_FENCE, 0, 0, -1, on_fenced, s);
}

void handover_silence(struct session *s, const struct err *why)
{
	if (session_over(s) || s->state == SESSION_UNDECIDED || s->giving_back ||
		s->stage != stage_find("commit"))
		return; /* decided, or being decided */
	/* The commit has not gone out: nothing is undecided. */
	if (!s->fenced || plant(PLANT_LAW6_GIVE_BACK)) {
		handover_give_back(s, why);
		return;
	}
	event_del(s->deadline);
	err_set(&s->why, why->errnum,
		"undecided: the commit was sent and not answered (%.120s). The guest is fenced "
		"here. "
		"Run `godwit resolve %s`",
		why->text, s->name);
	s->result = RESULT_UNDECIDED;
	session_set_state(s, SESSION_UNDECIDED);
	log_error(s->name, "%s", s->why.text);
	watch_end(s);
}

static void on_source_ended(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;

	if (session_over(s))
		return;
	if (a->status < 0)
		watch_text(s, LOG_WARN,
			"the guest runs at the target; the VMM here is fenced and did not end: %s",
			a->why.text);
	journal_end(s->journal);
	s->journal = NULL;
	stage_done(s);
}

void handover_finish(struct session *s)
{
	struct err e;

	if (journal_write(s->journal, json_pack("{s:s}", "is", "running"), &e) < 0)
		watch_text(s, LOG_WARN, "%s", e.text);
	plant_step("known");
	vmm_ask(s->vmm, AGENT_END, 0, 0, -1, on_source_ended, s);
}

/* Target. */
static void refuse(struct session *s, const struct err *why)
{
	journal_end(s->journal);
	s->journal = NULL;
	s->why = *why;
	peer_answer(s, json_pack("{s:s, s:s}", "outcome", "refused", "error", why->text));
	session_end(s, RESULT_FAILED, why);
}

/* Refused only after it is certain that the guest can't run here. */
static void on_killed(void *arg, bool ended)
{
	struct session *s = arg;
	struct err why = s->why, e;

	s->death = NULL;
	if (session_over(s))
		return;
	if (ended) {
		refuse(s, &why);
		return;
	}
	err_set(&e, EIO,
		"the VMM did not resume the guest, and could not be ended: %.120s. The source "
		"stays undecided; end the VMM here, then run `godwit resolve %s --keep source` "
		"there",
		why.text, s->name);
	session_end(s, RESULT_UNDECIDED, &e);
}

static void end_vmm_and_refuse(struct session *s, const struct err *why)
{
	s->why = *why;
	s->death = vmm_kill(s->vmm, s->host->base, KILL_MS, on_killed, s);
}

static void on_running(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;
	struct err e;

	if (session_over(s))
		return;
	if (a->status < 0) {
		end_vmm_and_refuse(s, &a->why);
		return;
	}
	watch_warn(s, a);
	plant_step("resumed");
	if (journal_note(s->journal, json_pack("{s:s}", "is", "running"), &e) < 0)
		log_warn(s->name, "%s", e.text);
	peer_answer(s, json_pack("{s:s}", "outcome", "running"));
	journal_end(s->journal);
	s->journal = NULL;
	session_end(s, RESULT_DONE, NULL);
}

void handover_taken(struct session *s, json_t *msg)
{
	struct err e;
	int rc;

	if (!s->loaded) {
		err_set(&e, EPROTO, "the source committed a guest whose state is not loaded");
		session_end(s, RESULT_FAILED, &e);
		return;
	}
	/* Not synced: when this host goes down, its VMM does too. */
	rc = journal_note(s->journal, json_pack("{s:s}", "is", "commit"), &e);
	if (rc < 0) {
		/* Nothing runs here yet; ending the VMM makes that certain. */
		end_vmm_and_refuse(s, &e);
		return;
	}
	plant_step("noted");
	vmm_ask(s->vmm, AGENT_RESUME, 0, json_is_true(json_object_get(msg, "paused")), -1,
		on_running, s);
}
