// SPDX-License-Identifier: BSD-3-Clause
// The network between two daemons is lost, and comes back. Run by both control loops.
//
// Only while pages are copied, and before the target's VMM is given its state: until then nothing
// is promised to anybody. Source: what was not acknowledged goes back to the dirty set, a paused
// guest runs again, and the target is called until the time is up. Target: its memory, its VMM and
// what is known of placed pages stay, and it waits. Both go on from stage "flows", with a new pass.
//
// Invariants: a connection that was given up is not used again: a session resumed has a new TLS
// handshake and a new token, and so new keys; a new flow is made only when the old ones are freed
// and their holes made; no pass is begun twice under one number (law 5).

#include "session_impl.h"

#include "clock.h"
#include "godwit.h"
#include "throttle.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define TICK_US    4000
#define LISTEN_NS  (200 * NS_PER_MS) /* the other side's last word may say why it ended */
#define AGAIN_NS   (200 * NS_PER_MS) /* between attempts */
#define ATTEMPT_MS 5000u             /* of one attempt, until its answer */

/* What a network does, and a process that ends. Other errors are for good. */
static bool of_network(int errnum)
{
	switch (errnum) {
	case ECONNRESET:
	case ECONNABORTED:
	case EPIPE:
	case ENOTCONN:
	case ESHUTDOWN:
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case ENETUNREACH:
	case ENETDOWN:
	case ENETRESET:
	case EADDRNOTAVAIL:
		return true;
	default:
		return false;
	}
}

static bool can_resume(const struct session *s)
{
	const struct session_reconnect *r = &s->reconnect;

	return r->wait_ns != 0 && r->joined && !s->leaving && s->stage < stage_find("load") &&
	       s->state <= SESSION_SWITCHING;
}

static void on_resumed_guest(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;

	s->undoing--;
	watch_warn(s, a);
	if (a->status < 0 && !session_over(s))
		session_fail(s, &a->why);
}

/* Everything that belongs to the lost connection stops; what takes time is waited for by left(). */
static void let_go(struct session *s)
{
	s->answered = NULL;
	s->reply_seq = 0;
	s->have_token = false;
	dial_cancel(s->dial);
	s->dial = NULL;
	for (unsigned i = 0; i < s->nflows; i++) {
		dial_cancel(s->flow_dial[i]);
		s->flow_dial[i] = NULL;
		if (s->flow[i] != NULL && s->attached[i])
			flow_detach(s->flow[i]);
	}
	flows_rdma_cancel(s);
	verify_cancel(s->verify);
	s->verify = NULL;
	s->digest[0] = s->peer_digest[0] = '\0';
	s->verify_began_ns = s->verify_took_ns = 0;
	spool_free(s->spool);
	s->spool = NULL;
	if (s->paused) {
		s->paused = false;
		s->undoing++;
		vmm_ask(s->vmm, AGENT_RESUME, 0, 0, -1, on_resumed_guest, s);
	}
	if (s->source)
		throttle_lift(s);
}

/* Has anything come since all flows were up? */
static bool was_back(const struct session *s)
{
	for (unsigned i = 0; i < s->nflows; i++)
		if (s->flow[i] != NULL &&
			atomic_load_explicit(&s->flow[i]->heard, memory_order_relaxed))
			return true;
	return false;
}

static void begin(struct session *s, const struct err *why)
{
	struct session_reconnect *r = &s->reconnect;
	uint64_t now = clock_ns();

	/* The flows may take another way than the connections that opened them. Where nothing came
	 * over them it never was back, and the time of before runs on. */
	if (!r->lost && (s->fig.reconnects == 0 || was_back(s)))
		r->until_ns = now + r->wait_ns;
	if (!r->lost) {
		r->why = *why;
		s->fig.reconnects++;
		watch_text(s, LOG_WARN, "the network was lost (%.200s); tries for %llu s more",
			why->text,
			(unsigned long long)(r->until_ns > now ? (r->until_ns - now) / NS_PER_S
							       : 0));
	}
	r->lost = true;
	r->lost_ns = r->next_ns = now;
	r->leaving = true;
	r->asked = false;
	event_del(s->deadline);
	s->stage = stage_find("flows");
	session_set_state(s, SESSION_RECONNECTING);
	let_go(s);
	session_tick_every(s, 0);
}

void reconnect_or_fail(struct session *s, const struct err *why)
{
	struct session_reconnect *r = &s->reconnect;

	if (s->state == SESSION_RECONNECTING) {
		/* An attempt went wrong. */
		r->asked = false;
		r->next_ns = clock_ns() + AGAIN_NS;
	} else if (of_network(why->errnum) && can_resume(s)) {
		begin(s, why);
	} else {
		session_fail(s, why);
	}
}

/* The VMM has answered all that it was asked. */
static bool pass_is_quiet(const struct session *s)
{
	return s->undoing == 0 && s->tracking == s->tracked && s->pass.arming == 0 &&
	       s->pass.state != PASS_LOOKING;
}

/* The pass under way is over: what was not acknowledged is dirty again. */
static int give_pass_up(struct session *s, struct err *e)
{
	pass_close(&s->pass);
	claim_drop(&s->claim);
	/* The target forgets, and is told anew. */
	carry_fini(&s->carry);
	if (carry_init(&s->carry, s->exclude.balloon, s->dirty.nchunks) < 0)
		return err_set(e, ENOMEM, "out of memory for the balloon's bitmap");
	return 0;
}

/* True when nothing of what was lost is left. */
static bool left(struct session *s)
{
	struct session_reconnect *r = &s->reconnect;
	struct err e;

	if (s->source && s->pass.state == PASS_FAILED) {
		session_fail(s, &s->pass.why);
		return false;
	}
	if (!r->asked && s->conn != NULL && clock_ns() - r->lost_ns < LISTEN_NS)
		return false;
	if (!session_flows_gone(s) || (s->source && !pass_is_quiet(s)))
		return false;
	memcpy(s->fig.stats_gone, s->fig.stats, sizeof(s->fig.stats_gone));
	memset(s->attached, 0, sizeof(s->attached));
	s->flows_up = 0;
	flows_nic_again(s);
	(void)flows_rdma_again(s); /* a target goes on with that in answer() */
	if (!r->asked) {
		conn_free(s->conn);
		s->conn = NULL;
	}
	r->leaving = false;
	if (s->source && give_pass_up(s, &e) < 0) {
		session_fail(s, &e);
		return false;
	}
	return true;
}

/* Source. */
static void on_resumed(struct session *s, json_t *answer)
{
	struct err e;

	if (session_over(s))
		return;
	if (!peer_get_token(answer, "token", s->token, &e)) {
		session_fail(s, &e);
		return;
	}
	watch_text(s, LOG_INFO, "the network is back after %.1f s; goes on with pass %u",
		(double)(clock_ns() - s->reconnect.lost_ns) / 1e9, s->next_pass);
	stage_begin(s, s->stage);
}

/* Who refuses the connection, or the session, has no memory of it. */
static bool is_final(int errnum)
{
	return !of_network(errnum) && errnum != EAGAIN && errnum != EINTR;
}

static void on_dialled(void *arg, int fd, struct tls *tls, const struct err *why)
{
	struct session *s = arg;
	char secret[TOKEN_TEXT];
	struct err e;

	s->dial = NULL;
	if (fd < 0) {
		if (is_final(why->errnum))
			session_fail(s, why);
		else
			reconnect_or_fail(s, why);
		return;
	}
	s->conn = conn_new(s->host->base, fd, tls, &e);
	if (s->conn == NULL) {
		session_fail(s, &e);
		return;
	}
	conn_own(s->conn, &peer_ops, s);
	peer_token_text(s->reconnect.secret, secret);
	/* A number for each attempt: the target may have taken one up whose answer was lost. */
	s->next_pass++;
	peer_ask(s,
		json_pack("{s:s, s:i, s:s, s:s, s:I}", "op", "resume", "protocol", SESSION_PROTOCOL,
			"name", s->name, "secret", secret, "pass", (json_int_t)s->next_pass),
		on_resumed);
}

static void dial_again(struct session *s)
{
	struct session_reconnect *r = &s->reconnect;
	uint64_t now = clock_ns();
	struct err e;

	if (now < r->next_ns)
		return;
	/* The attempt before had its time. */
	dial_cancel(s->dial);
	conn_free(s->conn);
	s->conn = NULL;
	s->answered = NULL;
	r->next_ns = now + ATTEMPT_MS * NS_PER_MS;
	s->dial = peer_dial(s, ATTEMPT_MS, on_dialled, &e);
	if (s->dial == NULL)
		session_fail(s, &e);
}

/* Target. The source tells of its whole balloon again, and names no word that is zero. */
static void forget_balloon(struct session *s)
{
	for (uint64_t c = 0; c < s->balloon_end; c++)
		if (s->vmm->in[c] != 0)
			s->vmm->in[c] = 0;
}

static void answer(struct session *s)
{
	struct session_reconnect *r = &s->reconnect;
	struct err e;
	int rc = recv_job_ready(&s->recv, &e);
	json_t *token;

	if (rc == 0 || !flows_rdma_again(s))
		return; /* holes of before are being made, windows of before given back */
	token = rc > 0 ? peer_new_token(s, &e) : NULL;
	if (token == NULL) {
		session_fail(s, &e);
		return;
	}
	forget_balloon(s);
	s->next_pass = r->pass;
	s->stage = stage_find("prepare"); /* "flows" is asked for next */
	session_set_state(s, SESSION_PREPARING);
	peer_answer(s, token);
}

int reconnect_new_secret(struct session *s, json_t *msg, struct err *e)
{
	uint8_t *secret = s->reconnect.secret;
	char text[TOKEN_TEXT];

	if (getrandom(secret, TOKEN_BYTES, 0) != TOKEN_BYTES)
		return err_sys(e, errno, "cannot get random bytes for the session's secret");
	peer_token_text(secret, text);
	json_object_set_new(msg, "secret", json_string(text));
	return 0;
}

static bool same_secret(const uint8_t *a, const uint8_t *b)
{
	uint8_t differ = 0;

	for (unsigned i = 0; i < TOKEN_BYTES; i++)
		differ |= a[i] ^ b[i];
	return differ == 0;
}

static bool same_peer(const struct session *s, const struct conn *c)
{
	return conn_tls(c) == NULL ? s->host->tls == NULL
				   : strcmp(tls_peer(conn_tls(c)), s->reconnect.peer) == 0;
}

int reconnect_accept(struct session *s, struct conn *c, json_t *msg, struct err *e)
{
	struct session_reconnect *r = &s->reconnect;
	uint8_t secret[TOKEN_BYTES];
	uint64_t pass;
	struct err why;

	if (!peer_get_token(msg, "secret", secret, e) ||
		!peer_get_u64(msg, "pass", UINT32_MAX - 1, &pass, e))
		return -e->errnum;
	if (!can_resume(s) || !same_peer(s, c) || !same_secret(secret, r->secret) ||
		pass <= s->next_pass)
		return err_set(e, EACCES,
			"session %s can't be resumed by this source: it is not the one that began "
			"it, or there is nothing to go on with",
			s->name);
	/* This side may not have noticed yet. */
	if (s->state != SESSION_RECONNECTING) {
		err_set(&why, ECONNRESET, "the source came anew");
		begin(s, &why);
	}
	conn_free(s->conn);
	s->conn = c;
	conn_own(c, &peer_ops, s);
	r->asked = true;
	r->pass = (uint32_t)pass;
	s->reply_seq = (uint32_t)json_integer_value(json_object_get(msg, "seq"));
	s->stage_ns = clock_ns();
	log_info(s->name, "the source is back, from %s", conn_peer_name(c));
	return 0;
}

void reconnect_tick(struct session *s)
{
	struct session_reconnect *r = &s->reconnect;

	session_tick_every(s, TICK_US);
	if (clock_ns() > r->until_ns) {
		session_failf(s, ETIMEDOUT,
			"the network was lost and not back within %llu s (--reconnect): %.160s",
			(unsigned long long)(r->wait_ns / NS_PER_S), r->why.text);
		return;
	}
	if (r->leaving && !left(s))
		return;
	if (s->source)
		dial_again(s);
	else if (r->asked)
		answer(s);
}

void reconnect_joined(struct session *s)
{
	struct session_reconnect *r = &s->reconnect;

	r->lost = false;
	r->joined = true;
}
