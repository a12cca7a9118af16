// SPDX-License-Identifier: BSD-3-Clause
// What is left when a commit was not answered, or a daemon died after it: the journals of a former
// daemon, and the operator's decision. Nothing is decided here that is not certain. Run by the
// control loop; VMMs are spoken to by threads beside it, which know no session.

#include "session_impl.h"

#include "aside.h"
#include "godwit.h"
#include "settle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A session of a former daemon that only the operator can end. */
static void remember(struct session_host *h, const char *name, json_t *begin, const char *side,
	const struct settle *word)
{
	const char *to = json_string_value(json_object_get(begin, "to"));
	struct session *s;
	struct err e;

	s = session_new(h, name, &word->where, strcmp(side, "source") == 0, &e);
	if (s == NULL) {
		log_error(name, "cannot remember the undecided session: %s", e.text);
		return;
	}
	s->recovered = true;
	s->stays_paused = word->stays_paused;
	s->direct = json_incref(word->direct);
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

/* What the journals of a former daemon are read for. */
struct recovery {
	struct session_host *h;
	struct event_base *base; /* where the VMMs' answers are waited for */
};

/* A committed session whose VMM is being asked. */
struct recovering {
	struct session_host *h;
	json_t *begin; /* the journal's first record */
	struct settle word;
	char name[SESSION_NAME];
};

static void recovering_free(struct recovering *r)
{
	json_decref(r->begin);
	json_decref(r->word.direct);
	free(r);
}

static void on_recovered(void *arg)
{
	struct recovering *r = arg;
	const struct settle *w = &r->word;

	if (w->warn.errnum != 0)
		log_warn(r->name, "%s", w->warn.text);
	if (w->status < 0)
		log_warn(r->name, "what was changed can't be put back: %s", w->why.text);
	if (w->found == 0 && w->state == GODWIT_RUNNING) {
		/* Source: never fenced, so the commit did not go out, or somebody resumed it since.
		 * Target: it was taken over. */
		log_info(r->name, "the guest runs here; nothing is left to do");
		forget(r->h, r->name);
	} else if (w->what == SETTLE_GONE) {
		log_info(r->name, "the guest runs at the target; nothing is left to do");
		forget(r->h, r->name);
	} else {
		remember(r->h, r->name, r->begin, w->source ? "source" : "target", w);
	}
	recovering_free(r);
}

static void recover_work(void *arg)
{
	settle_run(&((struct recovering *)arg)->word);
}

static void recover_committed(struct recovery *rec, const char *name, json_t *begin,
	const struct settle *word, bool running)
{
	struct recovering *r = calloc(1, sizeof(*r));
	struct err e;

	if (r == NULL)
		abort(); /* at the start, with next to nothing allocated */
	r->h = rec->h;
	r->begin = json_incref(begin);
	r->word = *word;
	json_incref(r->word.direct);
	r->word.what = running ? SETTLE_GONE : SETTLE_FIND;
	snprintf(r->name, sizeof(r->name), "%s", name);
	if (aside_run(rec->base, recover_work, on_recovered, r, &e) < 0) {
		log_error(name, "%s: its VMM can't be asked", e.text);
		r->word.what = SETTLE_NOTHING;
		r->word.found = e.errnum > 0 ? -e.errnum : -EAGAIN;
		on_recovered(r);
	}
}

/* A journal of a former daemon. */
static void recover_one(void *arg, const char *name, json_t *records)
{
	struct recovery *rec = arg;
	json_t *first = json_array_get(records, 0);
	const char *side = json_string_value(json_object_get(first, "side"));
	struct settle word = {.source = side == NULL || strcmp(side, "source") == 0};
	bool known = vmm_where_from_json(&word.where, first) && side != NULL;
	bool damaged = json_array_size(records) > 0 && !known;
	bool committed = false, running = false;
	json_t *record;
	size_t i;

	json_array_foreach(records, i, record)
	{
		const char *is = json_string_value(json_object_get(record, "is"));

		damaged |= json_object_get(record, "damaged") != NULL;
		committed |= is != NULL && strcmp(is, "commit") == 0;
		running |= is != NULL && strcmp(is, "running") == 0;
		word.stays_paused |= json_is_true(json_object_get(record, "paused"));
		if (json_is_array(json_object_get(record, "direct")))
			word.direct = json_object_get(record, "direct");
	}
	if (!known)
		memset(&word.where, 0, sizeof(word.where));
	if (damaged) {
		/* What can't be read may have been a promise. */
		remember(rec->h, name, first, known ? side : "source", &word);
	} else if (!committed) {
		/* The commit was not even written: the lease gave the guest back. */
		log_info(name,
			"a session of a former daemon had not committed; nothing is left to do");
		forget(rec->h, name);
	} else {
		recover_committed(rec, name, first, &word, running);
	}
}

/* Nobody is served before all is known; the VMMs are asked all at once. */
int session_recover(struct session_host *h, struct err *e)
{
	struct recovery rec = {h, event_base_new()};
	int rc;

	if (rec.base == NULL)
		return err_set(e, ENOMEM, "no memory or descriptors to read the journals");
	rc = journal_scan(h->state_dir, recover_one, &rec, e);
	event_base_dispatch(rec.base);
	event_base_free(rec.base);
	return rc;
}

static json_t *tell_about(const struct session *s, const char *here)
{
	json_t *t = json_pack("{s:s, s:s, s:s}", "name", s->name, "side",
		s->source ? "source" : "target", "vmm_here", here);

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
	watch_warn(s, a);
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

/* An operator's question, or decision, under way. */
struct resolving {
	char name[SESSION_NAME];
	struct settle word;
	session_resolve_fn fn;
	void *arg;
};

static void resolve_recovered(struct session *s, const struct settle *w)
{
	bool keep_here = w->what == SETTLE_KEEP;

	forget(s->host, s->name);
	s->state = SESSION_ENDED;
	s->result = keep_here != s->source ? RESULT_DONE : RESULT_FAILED;
	log_info(s->name, "resolved by the operator: the %s keeps the guest",
		keep_here == s->source ? "source" : "target");
	watch_end(s);
	watch_drop_all(s);
}

static void on_settled(void *arg)
{
	struct resolving *r = arg;
	const struct settle *w = &r->word;
	bool decided = w->what == SETTLE_KEEP || w->what == SETTLE_END;
	struct session *s = session_find(r->name);
	struct err e = w->why;
	json_t *tell = NULL;
	int rc = w->status;

	if (s == NULL || s->state != SESSION_UNDECIDED) {
		rc = err_set(&e, ENOENT, "session %s was resolved meanwhile", r->name);
	} else {
		tell = tell_about(s, settle_here(w));
		if (decided)
			s->settling = false;
		if (decided && rc == 0)
			resolve_recovered(s, w);
	}
	if (w->warn.errnum != 0)
		log_warn(r->name, "%s", w->warn.text);
	r->fn(r->arg, rc, tell, &e);
	json_decref(tell);
	json_decref(r->word.direct);
	free(r);
}

static void settle_work(void *arg)
{
	settle_run(&((struct resolving *)arg)->word);
}

/* Of a session that has no VMM connection. */
static int ask_aside(
	struct session *s, enum settle_what what, session_resolve_fn fn, void *arg, struct err *e)
{
	struct resolving *r = calloc(1, sizeof(*r));
	int rc;

	if (r == NULL)
		return err_set(e, ENOMEM, "resolve: no memory");
	snprintf(r->name, sizeof(r->name), "%s", s->name);
	r->word = (struct settle){.where = s->where,
		.what = what,
		.source = s->source,
		.stays_paused = s->stays_paused,
		.direct = json_deep_copy(s->direct)};
	r->fn = fn;
	r->arg = arg;
	rc = aside_run(s->host->base, settle_work, on_settled, r, e);
	if (rc < 0) {
		json_decref(r->word.direct);
		free(r);
	} else if (what != SETTLE_LOOK) {
		s->settling = true;
	}
	return rc;
}

/* A live session holds the VMM's one connection, and knows. */
static void resolve_live(struct session *s, const char *keep, session_resolve_fn fn, void *arg)
{
	json_t *tell = tell_about(s, s->fenced ? "fenced" : "in this session's hands");
	struct err none = {0};

	if (keep != NULL) {
		s->keep_target = strcmp(keep, "target") == 0;
		s->giving_back = true; /* what the target says from here on is too late */
		session_set_state(s, SESSION_COMMITTING);
		err_set(&s->why, ECONNABORTED,
			"the operator decided: the guest goes on at the source");
		vmm_ask(s->vmm, s->keep_target ? AGENT_END : AGENT_RESUME, s->keep_target ? 0 : 1,
			0, -1, on_resolved, s);
	}
	fn(arg, 0, tell, &none);
	json_decref(tell);
}

int session_resolve(
	const char *name, const char *keep, session_resolve_fn fn, void *arg, struct err *e)
{
	struct session *s = session_find(name);
	bool keep_source = keep != NULL && strcmp(keep, "source") == 0;

	if (s == NULL || s->state != SESSION_UNDECIDED)
		return err_set(e, ENOENT,
			"no session of the name %s is undecided here; nothing to "
			"resolve",
			name);
	if (keep != NULL && !keep_source && strcmp(keep, "target") != 0)
		return err_set(e, EINVAL, "--keep takes source or target, not %s", keep);
	if (keep != NULL && s->settling)
		return err_set(e, EBUSY,
			"session %s is being resolved: its VMM was asked and has not answered",
			name);
	if (!s->recovered && s->vmm != NULL) {
		resolve_live(s, keep, fn, arg);
		return 0;
	}
	return ask_aside(s,
		keep == NULL               ? SETTLE_LOOK
		: keep_source == s->source ? SETTLE_KEEP
					   : SETTLE_END,
		fn, arg, e);
}
