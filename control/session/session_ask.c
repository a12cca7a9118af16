// SPDX-License-Identifier: BSD-3-Clause
// What the API asks of a source's session, and of any: begin, cancel, switch now, other limits,
// status. Run by the control loop.

#include "session_impl.h"

#include <errno.h>
#include <string.h>

int session_migrate(struct session_host *h, const struct migrate_options *o, struct session **out,
	struct err *e)
{
	struct session *s;

	if (o->flows < 1 || o->flows > SESSION_FLOWS)
		return err_set(
			e, EINVAL, "flows: 1 to %u are possible, not %u", SESSION_FLOWS, o->flows);
	if (session_check_helper(h, &o->vmm, e) < 0)
		return -e->errnum;
	s = session_new(h, o->name, &o->vmm, true, e);
	if (s == NULL)
		return -e->errnum;
	s->opt = *o;
	s->seal_wish = o->seal;
	s->peer_timeout_ns = o->peer_timeout_ns;
	s->reconnect.wait_ns = o->reconnect_ns;
	s->nflows = 0;
	s->next_pass = 0;
	log_info(s->name, "migrates to %s", o->to);
	/* From the loop, so that the caller can watch from the first event on. */
	s->stage = 0;
	session_tick_every(s, 0);
	*out = s;
	return 0;
}

int session_cancel(struct session *s, struct err *e)
{
	struct err why;

	if (s->state == SESSION_ENDED || s->state == SESSION_ENDING)
		return err_set(e, EALREADY, "session %s has ended", s->name);
	if (s->state == SESSION_UNDECIDED)
		return err_set(e, EBUSY, "session %s is undecided; run `godwit resolve %s`",
			s->name, s->name);
	if (!session_before_commit(s))
		return err_set(e, EBUSY,
			"session %s is committed: the guest belongs to the target now", s->name);
	err_set(&why, ECANCELED, "cancelled by request");
	session_end(s, RESULT_CANCELLED, &why);
	return 0;
}

static int still_copying(const struct session *s, struct err *e)
{
	if (!s->source)
		return err_set(e, ENOTSUP,
			"session %s is the receiving side; ask the source's daemon", s->name);
	if (s->state > SESSION_HOLDING)
		return err_set(e, EBUSY, "session %s is %s; too late for this", s->name,
			session_state_name[s->state]);
	return 0;
}

int session_switch_now(struct session *s, struct err *e)
{
	int rc = still_copying(s, e);

	if (rc == 0) {
		s->switch_now = true;
		s->rest_until_ns = 0;
	}
	return rc;
}

int session_set_bandwidth(struct session *s, uint64_t bytes_per_s, struct err *e)
{
	int rc = still_copying(s, e);

	if (rc == 0) {
		s->opt.bytes_per_s = bytes_per_s;
		atomic_store_explicit(&s->send.bytes_per_s,
			s->nflows > 0 ? bytes_per_s / s->nflows : bytes_per_s,
			memory_order_relaxed);
	}
	return rc;
}

int session_set_downtime(struct session *s, uint64_t ns, struct err *e)
{
	int rc = still_copying(s, e);

	if (rc == 0)
		s->opt.limits.downtime_ns = ns;
	return rc;
}

json_t *session_status(const struct session *cs)
{
	struct session *s = (struct session *)cs;
	json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:i}", "name", s->name, "side",
		s->source ? "source" : "target", "state", session_state_name[s->state], "stage",
		stage_table[s->stage].name, "pass", (int)s->next_pass);

	vmm_where_to_json(&s->where, j);
	if (s->source)
		json_object_set_new(j, "to", json_string(s->opt.to));
	json_object_set_new(j, "insecure", json_boolean(s->host->tls == NULL));
	if (s->state == SESSION_ENDED || s->state == SESSION_UNDECIDED)
		json_object_set_new(j, "result", json_string(session_result_name(s->result)));
	json_object_set_new(
		j, "error", s->why.errnum != 0 ? json_string(s->why.text) : json_null());
	if (s->fig.pass != NULL)
		json_object_set(j, "under_way", s->fig.pass);
	json_object_set_new(j, "report", watch_report(s));
	return j;
}

static void shut_one(void *arg, struct session *s)
{
	struct err e;

	(void)arg;
	if (s->state >= SESSION_ENDING || !session_before_commit(s))
		return;
	err_set(&e, ESHUTDOWN, "the daemon was told to end");
	session_end(s, RESULT_CANCELLED, &e);
}

void session_shutdown(void)
{
	session_each(shut_one, NULL);
}

const char *session_name(const struct session *s)
{
	return s->name;
}
