// SPDX-License-Identifier: BSD-3-Clause
// The life of a session: made, moved from state to state, ended. Every end goes through
// session_end(): roll back, detach the flows from their lcores, let go of the VMM, tell the
// watchers. An ended session is remembered until its name is used again. Run by the control loop.

#include "session_impl.h"

#include "clock.h"
#include "lcore.h"
#include "reserve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNDO_WAIT_NS                                                                               \
	(5 * NS_PER_S) /* for the VMM to answer the roll-back; then the lease does it */

static TAILQ_HEAD(, session) sessions = TAILQ_HEAD_INITIALIZER(sessions);
static unsigned nsessions;

const char *const session_state_name[SESSION_STATES] = {
	"waiting",
	"preparing",
	"ready",
	"reconnecting",
	"copying",
	"holding",
	"switching",
	"committing",
	"undecided",
	"ending",
	"ended",
};

#define TO(x) (1u << SESSION_##x)
/* From each state, the states that may follow. */
static const unsigned session_moves[SESSION_STATES] = {
	[SESSION_WAITING] = TO(PREPARING) | TO(ENDING),
	[SESSION_PREPARING] = TO(WAITING) | TO(PREPARING) | TO(READY) | TO(RECONNECTING) |
			      TO(COPYING) | TO(SWITCHING) | TO(ENDING),
	[SESSION_READY] = TO(PREPARING) | TO(ENDING),
	[SESSION_RECONNECTING] = TO(PREPARING) | TO(ENDING),
	[SESSION_COPYING] = TO(RECONNECTING) | TO(HOLDING) | TO(SWITCHING) | TO(ENDING),
	[SESSION_HOLDING] = TO(RECONNECTING) | TO(COPYING) | TO(SWITCHING) | TO(ENDING),
	[SESSION_SWITCHING] = TO(RECONNECTING) | TO(SWITCHING) | TO(COMMITTING) | TO(ENDING),
	[SESSION_COMMITTING] = TO(COMMITTING) | TO(UNDECIDED) | TO(ENDING),
	[SESSION_UNDECIDED] = TO(COMMITTING) | TO(ENDING),
	[SESSION_ENDING] = TO(ENDED),
	[SESSION_ENDED] = 0,
};

const char *session_result_name(enum session_result r)
{
	static const char *const names[] = {
		"none",
		"done",
		"failed",
		"cancelled",
		"undecided",
		"refused",
		"dry-run",
	};

	return names[r];
}

void session_set_state(struct session *s, enum session_state to)
{
	if (s->state == to)
		return;
	if ((session_moves[s->state] & (1u << to)) == 0) {
		/* A fault of this program: say so, and keep the guest where it is. */
		log_error(s->name, "state %s can't follow %s", session_state_name[to],
			session_state_name[s->state]);
		abort();
	}
	s->state = to;
	watch_state(s);
}

bool session_before_commit(const struct session *s)
{
	return s->state < SESSION_COMMITTING;
}

void session_tick_every(struct session *s, unsigned us)
{
	struct timeval tv = {us / 1000000, us % 1000000};

	event_add(s->tick, &tv);
}

int session_reserve(const struct region_map *map, uint64_t bytes, struct err *e)
{
	struct reserve r;
	struct session *s;

	reserve_needs(&r, map, bytes);

	TAILQ_FOREACH(s, &sessions, next)
	if (s->vmm != NULL && s->reserved_bytes != 0)
		reserve_promise(&r, &s->vmm->map, s->reserved_bytes);
	return reserve_check(&r, "", e);
}

static void end_tick(struct session *s);

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;

	(void)fd;
	(void)what;
	if (s->state == SESSION_ENDING) {
		end_tick(s);
		return;
	}
	if (s->state == SESSION_RECONNECTING) {
		reconnect_tick(s);
		return;
	}
	if (s->source && !s->begun) {
		s->begun = true;
		stage_begin(s, 0);
		return;
	}
	/* After the last barrier flows have nothing left to lose: the other side closes them. */
	if (s->state == SESSION_ENDED ||
		(session_before_commit(s) && !s->leaving && !session_flows_work(s)))
		return;
	if (s->source && s->spool != NULL && s->conn != NULL && s->spool->at < s->spool->bytes) {
		struct err e;

		if (spool_send(s->spool, s->conn, &e) < 0) {
			reconnect_or_fail(s, &e);
			return;
		}
	}
	if (s->readying)
		source_ready_tick(s);
	else if (s->source)
		precopy_tick(s);
	else
		target_tick(s);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	struct err e;

	(void)fd;
	(void)what;
	err_set(&e, ETIMEDOUT, "stage \"%s\" did not end within %llu s; the %s does not answer",
		stage_table[s->stage].name, (unsigned long long)s->deadline_s,
		s->answered != NULL ? "target's daemon, or the VMM there," : "VMM");
	if (s->reconnect.lost)
		reconnect_or_fail(s, &e);
	else
		session_fail(s, &e);
}

static void session_free(struct session *s)
{
	watch_drop_all(s);
	TAILQ_REMOVE(&sessions, s, next);
	nsessions--;
	if (s->tick != NULL)
		event_free(s->tick);
	if (s->deadline != NULL)
		event_free(s->deadline);
	json_decref(s->fig.passes);
	json_decref(s->fig.pass);
	stall_fini(&s->stall);
	json_decref(s->peer);
	json_decref(s->direct);
	free(s);
}

int session_check_helper(const struct session_host *h, const struct vmm_where *where, struct err *e)
{
	if (where->driver != VMM_QEMU || h->helper != NULL)
		return 0;
	return err_set(e, ENOENT,
		"godwit-attach, which attaches to unmodified VMMs, could not be started; it "
		"belongs beside godwitd");
}

struct session *session_new(struct session_host *h, const char *name, const struct vmm_where *where,
	bool source, struct err *e)
{
	struct session *s = session_find(name);

	if (s != NULL && s->state == SESSION_ENDING) {
		err_set(e, EBUSY, "session %s is ending; try again in a moment", name);
		return NULL;
	}
	if (s != NULL && s->state != SESSION_ENDED) {
		err_set(e, EBUSY,
			"a session of the name %s is there already (%s); cancel it or use another "
			"name",
			name, session_state_name[s->state]);
		return NULL;
	}
	if (s != NULL)
		session_free(s);
	if (nsessions >= SESSION_MAX) {
		/* The oldest one that has ended makes room. */
		TAILQ_FOREACH(s, &sessions, next)
		if (s->state == SESSION_ENDED)
			break;
		if (s == NULL) {
			err_set(e, EBUSY, "%u sessions are under way, which is the most at once",
				SESSION_MAX);
			return NULL;
		}
		session_free(s);
	}
	s = calloc(1, sizeof(*s));
	if (s == NULL) {
		err_set(e, ENOMEM, "out of memory");
		return NULL;
	}
	s->host = h;
	s->source = source;
	s->throttle.percent = s->throttle_least = 100;
	snprintf(s->name, sizeof(s->name), "%s", name);
	s->where = *where;
	s->where.by = h->helper;
	s->state = source ? SESSION_PREPARING : SESSION_WAITING;
	s->fig.began_ns = clock_ns();
	s->progress_ns = s->seen.at_ns = s->fig.began_ns;
	s->fig.passes = json_array();
	LIST_INIT(&s->watches);
	TAILQ_INSERT_TAIL(&sessions, s, next);
	nsessions++;
	s->tick = event_new(h->base, -1, 0, on_tick, s);
	s->deadline = event_new(h->base, -1, 0, on_deadline, s);
	if (s->tick == NULL || s->deadline == NULL) {
		session_free(s);
		err_set(e, ENOMEM, "out of memory");
		return NULL;
	}
	return s;
}

/* The whole migration in a line. */
static void tell_end(const struct session *s)
{
	const uint64_t *st = s->fig.stats;

	log_info(s->name,
		"result=%s side=%s ms=%.3f passes=%u pause_ms=%.3f pages_data=%llu pages_zero=%llu "
		"pages_hole=%llu bytes_wire=%llu",
		session_result_name(s->result), s->source ? "source" : "target",
		(double)(s->fig.ended_ns - s->fig.began_ns) / 1e6, s->fig.begun,
		(double)s->fig.pause_ns / 1e6, (unsigned long long)st[STAT_pages_data],
		(unsigned long long)st[STAT_pages_zero], (unsigned long long)st[STAT_pages_hole],
		(unsigned long long)st[STAT_bytes_wire]);
}

static void end_tick(struct session *s)
{
	bool waiting = s->undoing > 0 && clock_ns() - s->ending_ns < UNDO_WAIT_NS;

	if (!session_flows_gone(s) || waiting ||
		(s->conn != NULL && conn_backlog(s->conn) > 0 &&
			clock_ns() - s->ending_ns < UNDO_WAIT_NS)) {
		session_tick_every(s, 1000);
		return;
	}
	flows_nic_gone(s);
	lcore_park();
	s->fig.ended_ns = clock_ns();
	s->state = SESSION_ENDED;
	tell_end(s);
	totals_ended(s);
	watch_end(s);
	/* From here on a lease ends, and the guest resumes by itself if it has not yet. */
	verify_cancel(s->verify);
	s->verify = NULL;
	target_fini(s);
	if (s->have_pass)
		precopy_fini(s);
	vmm_close(s->vmm);
	s->vmm = NULL;
	conn_free(s->conn);
	s->conn = NULL;
	spool_free(s->spool);
	s->spool = NULL;
	if (s->result == RESULT_UNDECIDED) {
		journal_close(s->journal);
		/* `godwit resolve` serves it like one of a former daemon. */
		s->state = SESSION_UNDECIDED;
		s->recovered = true;
	} else {
		journal_end(s->journal);
	}
	s->journal = NULL;
	s->reserved_bytes = 0;
	s->have_token = false;
	watch_drop_all(s);
}

void session_give_way(const char *name)
{
	struct session *s = session_find(name);
	struct err why;

	if (s == NULL || s->source || s->state != SESSION_RECONNECTING)
		return;
	err_set(&why, ECANCELED, "its source was lost, and `godwit receive %s` was run anew", name);
	session_end(s, RESULT_CANCELLED, &why);
	end_tick(s); /* its flows went when the source was lost: nothing is left to wait for */
}

void session_end(struct session *s, enum session_result result, const struct err *why)
{
	if (s->state == SESSION_ENDING || s->state == SESSION_ENDED)
		return;
	s->result = result;
	if (why != NULL)
		s->why = *why;
	if (why != NULL)
		log_write(result == RESULT_CANCELLED ? LOG_INFO : LOG_ERROR, s->name, "%s: %s",
			session_result_name(result), why->text);
	else
		log_info(s->name, "%s", session_result_name(result));
	if (result != RESULT_DONE && result != RESULT_DRY_RUN && why != NULL)
		peer_abort(s, why);
	event_del(s->deadline);
	dial_cancel(s->dial);
	s->dial = NULL;
	s->answered = NULL;
	s->ending_ns = clock_ns();
	if (s->source && result != RESULT_DONE && s->vmm != NULL)
		stage_undo(s);
	flows_rdma_cancel(s);
	for (unsigned i = 0; i < s->nflows; i++) {
		dial_cancel(s->flow_dial[i]);
		s->flow_dial[i] = NULL;
		if (s->flow[i] != NULL && s->attached[i])
			flow_detach(s->flow[i]);
	}
	s->state = SESSION_ENDING;
	watch_state(s);
	session_tick_every(s, 0);
}

void session_fail(struct session *s, const struct err *why)
{
	/* After commit the guest's owner is not this side's to choose. */
	if (s->source && (s->state == SESSION_COMMITTING || s->state == SESSION_UNDECIDED)) {
		handover_silence(s, why);
		return;
	}
	/* The VMM was told to take the guest over: its answer decides, nothing else. */
	if (!s->source && s->state == SESSION_COMMITTING) {
		log_warn(s->name, "while taking the guest over: %s", why->text);
		return;
	}
	session_end(s,
		s->source && stage_find("prepare") > s->stage ? RESULT_REFUSED : RESULT_FAILED,
		why);
}

void session_failf(struct session *s, int errnum, const char *fmt, ...)
{
	struct err e = {.errnum = errnum};
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e.text, sizeof(e.text), fmt, ap);
	va_end(ap);
	session_fail(s, &e);
}

struct session *session_find(const char *name)
{
	struct session *s;

	TAILQ_FOREACH(s, &sessions, next)
	if (strcmp(s->name, name) == 0)
		return s;
	return NULL;
}

void session_each(void (*fn)(void *arg, struct session *s), void *arg)
{
	struct session *s;

	TAILQ_FOREACH(s, &sessions, next)
	fn(arg, s);
}
