// SPDX-License-Identifier: BSD-3-Clause
// What is left when a commit was not answered, or a daemon died after it: the journals of a former
// daemon, and the operator's decision. Nothing is decided here that is not certain.

#include "session_impl.h"

#include "godwit.h"

#include <errno.h>
#include <string.h>

#define ONCE_MS 1000 /* for the VMM to answer; it was idle, so it answers at once or not at all */

static const char *agent_state_name(unsigned state)
{
	static const char *const names[] = {
		"running", "paused", "fenced", "incoming", "loaded", "ended"};

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

/* A session of a former daemon that only the operator can end. */
static void remember(struct session_host *h, const char *name, json_t *begin,
	const struct vmm_where *where, const char *side, bool paused)
{
	const char *to = json_string_value(json_object_get(begin, "to"));
	struct session *s;
	struct err e;

	s = session_new(h, name, where, strcmp(side, "source") == 0, &e);
	if (s == NULL) {
		log_error(name, "cannot remember the undecided session: %s", e.text);
		return;
	}
	s->recovered = true;
	s->stays_paused = paused;
	s->begun = true;
	s->stage = stage_find("commit");
	s->state = SESSION_UNDECIDED;
	s->result = RESULT_UNDECIDED;
	snprintf(s->opt.to, sizeof(s->opt.to), "%s", to != NULL ? to : "");
	err_set(&s->why, EINPROGRESS,
		"undecided: the daemon ended between the commit and its answer. Run `godwit "
		"resolve %s`",
		name);
	log_error(name, "%s", s->why.text);
}

static void forget(struct session_host *h, const char *name)
{
	struct journal *j;
	struct err e;

	if (journal_reopen(&j, h->state_dir, name, &e) == 0)
		journal_end(j);
}

/* A journal of a former daemon. */
static void recover_one(void *arg, const char *name, json_t *records)
{
	struct session_host *h = arg;
	json_t *first = json_array_get(records, 0);
	const char *side = json_string_value(json_object_get(first, "side"));
	struct vmm_where where;
	bool known = vmm_where_from_json(&where, first) && side != NULL;
	bool damaged = json_array_size(records) > 0 && !known;
	bool committed = false, running = false, paused = false;
	unsigned state;
	json_t *record;
	struct err e;
	size_t i;
	int rc;

	json_array_foreach(records, i, record)
	{
		const char *is = json_string_value(json_object_get(record, "is"));

		damaged |= json_object_get(record, "damaged") != NULL;
		committed |= is != NULL && strcmp(is, "commit") == 0;
		running |= is != NULL && strcmp(is, "running") == 0;
		paused |= json_is_true(json_object_get(record, "paused"));
	}
	if (!known) {
		side = "source";
		memset(&where, 0, sizeof(where));
	}
	if (damaged) {
		/* What can't be read may have been a promise. */
		remember(h, name, first, &where, side, paused);
		return;
	}
	if (!committed) {
		/* The commit was not even written: the lease gave the guest back. */
		log_info(name,
			"a session of a former daemon had not committed; nothing is left to do");
		forget(h, name);
		return;
	}
	rc = vmm_once(&where, AGENT_HELLO, 0, ONCE_MS, &state, &e);
	if (rc == 0 && state == GODWIT_RUNNING) {
		/* Source: never fenced, so the commit did not go out. Target: it was taken over. */
		log_info(name, "the guest runs here; nothing is left to do");
		forget(h, name);
	} else if (running) {
		if (strcmp(side, "source") == 0 && rc == 0)
			vmm_once(&where, AGENT_END, 0, ONCE_MS, NULL, &e);
		log_info(name, "the guest runs at the target; nothing is left to do");
		forget(h, name);
	} else {
		remember(h, name, first, &where, side, paused);
	}
}

int session_recover(struct session_host *h, struct err *e)
{
	return journal_scan(h->state_dir, recover_one, h, e);
}

static json_t *tell_about(struct session *s)
{
	unsigned state = 0;
	struct err e;
	const char *here;
	json_t *t;

	/* A live session holds the VMM's one connection, and knows. */
	if (s->vmm != NULL)
		here = s->fenced ? "fenced" : "in this session's hands";
	else if (vmm_once(&s->where, AGENT_HELLO, 0, ONCE_MS, &state, &e) == 0)
		here = agent_state_name(state);
	else
		here = "gone, or not answering";
	t = json_pack("{s:s, s:s, s:s}", "name", s->name, "side", s->source ? "source" : "target",
		"vmm_here", here);
	vmm_where_to_json(&s->where, t);
	if (s->source) {
		json_object_set_new(t, "to", json_string(s->opt.to));
		json_object_set_new(t, "check",
			json_string("Look at the target host: does its VMM run the guest (its "
				    "console, its "
				    "network, `godwit status`, `godwit resolve` there)? If it "
				    "runs, say "
				    "--keep target: the VMM here ends. If it does not run, end "
				    "that VMM "
				    "first, so that it never can, then say --keep source: the "
				    "guest goes on "
				    "here."));
	} else {
		json_object_set_new(t, "check",
			json_string("If vmm_here is \"running\", the guest runs here: say --keep "
				    "target, and "
				    "the same at the source. Otherwise it was not taken over: end "
				    "this VMM, say "
				    "--keep source here and at the source."));
	}
	return t;
}

static void on_resolved(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;

	close_fd(&a->fd);
	if (session_over(s))
		return;
	/* A VMM that has ended, for certain, is what --keep target asks for. */
	if (a->status < 0 && !(s->keep_target && vmm_ended(s->vmm))) {
		/* Still undecided; the operator is told by status. */
		s->why = a->why;
		s->giving_back = false;
		session_set_state(s, SESSION_UNDECIDED);
		log_error(s->name, "resolve: %s", a->why.text);
		return;
	}
	journal_end(s->journal);
	s->journal = NULL;
	s->fenced = false;
	s->paused = false;
	if (s->keep_target)
		session_end(s, RESULT_DONE, NULL);
	else
		session_end(s, RESULT_FAILED, &s->why);
}

static int resolve_recovered(
	struct session_host *h, struct session *s, bool keep_here, struct err *e)
{
	unsigned state;
	int rc = vmm_once(&s->where, AGENT_HELLO, 0, ONCE_MS, &state, e);

	if (keep_here) {
		if (rc < 0)
			return rc;
		if (state != GODWIT_RUNNING && !s->stays_paused) {
			if (!s->source)
				return err_set(e, EINVAL,
					"the VMM here is %s and has no guest to keep",
					agent_state_name(state));
			rc = vmm_once(&s->where, AGENT_RESUME, 1, ONCE_MS, NULL, e);
			if (rc < 0)
				return rc;
		}
	} else if (rc < 0 && rc != -ENOENT && rc != -ECONNREFUSED && rc != -EPIPE) {
		/* No answer is not gone: it may run the guest. */
		return rc;
	} else if (rc == 0 && state == GODWIT_RUNNING) {
		return err_set(e, EBUSY,
			"the VMM here runs the guest; end it yourself if that is what you want");
	} else if (rc == 0 && state != GODWIT_ENDED) {
		rc = vmm_once(&s->where, AGENT_END, 0, ONCE_MS, NULL, e);
		if (rc < 0)
			return rc;
	}
	forget(h, s->name);
	s->state = SESSION_ENDED;
	s->result = keep_here != s->source ? RESULT_DONE : RESULT_FAILED;
	log_info(s->name, "resolved by the operator: the %s keeps the guest",
		keep_here == s->source ? "source" : "target");
	watch_end(s);
	watch_drop_all(s);
	return 0;
}

int session_resolve(
	struct session_host *h, const char *name, const char *keep, json_t **tell, struct err *e)
{
	struct session *s = session_find(name);
	bool keep_target;

	if (s == NULL || s->state != SESSION_UNDECIDED)
		return err_set(e, ENOENT,
			"no session of the name %s is undecided here; nothing to "
			"resolve",
			name);
	if (tell != NULL)
		*tell = tell_about(s);
	if (keep == NULL)
		return 0;
	keep_target = strcmp(keep, "target") == 0;
	if (!keep_target && strcmp(keep, "source") != 0)
		return err_set(e, EINVAL, "--keep takes source or target, not %s", keep);
	if (s->recovered)
		return resolve_recovered(h, s, keep_target != s->source, e);
	s->keep_target = keep_target;
	s->giving_back = true; /* what the target says from here on is too late */
	session_set_state(s, SESSION_COMMITTING);
	err_set(&s->why, ECONNABORTED, "the operator decided: the guest goes on at the source");
	vmm_ask(s->vmm, keep_target ? AGENT_END : AGENT_RESUME, keep_target ? 0 : 1, 0, -1,
		on_resolved, s);
	return 0;
}
