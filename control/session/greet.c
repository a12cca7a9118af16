// SPDX-License-Identifier: BSD-3-Clause
// Connections that arrive at the daemon's port, until it is known whose they are: a control
// connection says hello and names its session, a flow shows its session's token. Run by the control
// loop.

#include "session_impl.h"

#include "can.h"
#include "stranger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GREET_DEADLINE_MS 5000
#define GREET_AGAIN_MS    20
#define GREET_MOST        64u /* at once; a newcomer takes the place of the oldest */

/* A control connection whose session is not known yet. */
struct greeting {
	TAILQ_ENTRY(greeting) next;
	struct session_host *host;
	struct conn *conn;
	struct event *deadline;
	json_t *hello;       /* what it said, while its session's VMM has yet to answer */
	struct event *again; /* looks whether it has */
};

static TAILQ_HEAD(, greeting) greetings = TAILQ_HEAD_INITIALIZER(greetings);
static unsigned ngreetings;

static void greeting_free(struct greeting *g)
{
	TAILQ_REMOVE(&greetings, g, next);
	ngreetings--;
	if (g->deadline != NULL)
		event_free(g->deadline);
	if (g->again != NULL)
		event_free(g->again);
	json_decref(g->hello);
	conn_free(g->conn);
	free(g);
}

static void greeting_refuse(struct greeting *g, const struct err *e)
{
	stranger_log(LOG_WARN, "peer", "%s: %s", conn_peer_name(g->conn), e->text);
	conn_send(g->conn,
		json_pack("{s:s, s:s, s:i}", "op", "abort", "error", e->text, "errno", e->errnum));
	greeting_free(g);
}

static void resume(struct greeting *g, struct session *s, json_t *msg)
{
	struct err e;

	if (reconnect_accept(s, g->conn, msg, &e) < 0) {
		greeting_refuse(g, &e);
		return;
	}
	g->conn = NULL;
	greeting_free(g);
}

/* Is it the source that the operator named, where he named one? */
static bool is_expected(const struct greeting *g, const struct session *s)
{
	const struct tls *tls = conn_tls(g->conn);

	return s->from[0] == '\0' || (tls != NULL && tls_peer_is(tls, s->from));
}

static void greet(struct greeting *g, json_t *msg)
{
	char op[16], name[SESSION_NAME];
	uint64_t protocol, seq;
	struct session *s;
	struct conn *c;
	struct err e;

	if (!peer_get_text(msg, "op", op, sizeof(op), &e) ||
		!peer_get_u64(msg, "protocol", UINT32_MAX, &protocol, &e) ||
		!peer_get_u64(msg, "seq", UINT32_MAX, &seq, &e) ||
		!peer_get_text(msg, "name", name, sizeof(name), &e)) {
		greeting_refuse(g, &e);
		return;
	}
	s = session_find(name);
	if (strcmp(op, "resume") == 0 && protocol == SESSION_PROTOCOL && s != NULL && !s->source) {
		resume(g, s, msg);
		return;
	}
	if (strcmp(op, "resume") == 0 && protocol == SESSION_PROTOCOL)
		err_set(&e, ENOENT,
			"nobody knows session %s there; was its godwitd started anew? Run `godwit "
			"receive %s` there and migrate again",
			name, name);
	else if (strcmp(op, "hello") != 0 || protocol != SESSION_PROTOCOL)
		err_set(&e, EPROTO,
			"the target's Godwit %s speaks control protocol %d and not %llu; install "
			"the "
			"same version on both hosts",
			GODWIT_VERSION, SESSION_PROTOCOL, (unsigned long long)protocol);
	else if (s == NULL || s->source || s->state == SESSION_ENDED)
		err_set(&e, ENOENT,
			"nobody waits for %s here; run `godwit receive %s` on the target first",
			name, name);
	else if (!is_expected(g, s))
		err_set(&e, EACCES,
			"%s is awaited from another host: its `godwit receive` names in --from "
			"which one",
			name);
	else if (s->state == SESSION_WAITING && !s->vmm_ready) {
		/* `godwit receive` came a moment ago: its VMM has not answered yet. */
		struct timeval tv = {0, GREET_AGAIN_MS * 1000};

		if (g->hello == NULL)
			g->hello = json_incref(msg);
		event_add(g->again, &tv);
		return;
	} else if (s->state != SESSION_WAITING)
		err_set(&e, EBUSY, "session %s is not waiting for a source (%s)", name,
			session_state_name[s->state]);
	else if (can_read(msg, &e) == 0)
		e.errnum = 0;
	if (e.errnum != 0) {
		greeting_refuse(g, &e);
		return;
	}
	c = g->conn;
	g->conn = NULL;
	greeting_free(g);
	log_info(s->name, "comes from %s (%s)", conn_peer_name(c),
		conn_tls(c) != NULL ? tls_peer(conn_tls(c)) : "insecure: plain text");
	target_hello(s, c, msg);
}

static void on_greeting(void *arg, json_t *msg)
{
	struct greeting *g = arg;
	struct err e;

	if (g->hello == NULL) {
		greet(g, msg);
		return;
	}
	err_set(&e, EPROTO, "a second message before the first was answered");
	greeting_refuse(g, &e);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	struct greeting *g = arg;
	json_t *hello = json_incref(g->hello);

	(void)fd;
	(void)what;
	greet(g, hello);
	json_decref(hello);
}

static void on_greeting_closed(void *arg, const struct err *why)
{
	struct greeting *g = arg;

	stranger_log(LOG_INFO, "peer", "%s: %s", conn_peer_name(g->conn), why->text);
	greeting_free(g);
}

static void on_greeting_late(evutil_socket_t fd, short what, void *arg)
{
	struct greeting *g = arg;
	struct err e;

	(void)fd;
	(void)what;
	err_set(&e, ETIMEDOUT, "no hello within %d s", GREET_DEADLINE_MS / 1000);
	greeting_refuse(g, &e);
}

static const struct conn_ops greeting_ops = {on_greeting, NULL, on_greeting_closed};

/* Plain text is taken only where this host is `insecure` too. */
static void accept_control(struct session_host *h, int fd, struct tls *tls)
{
	struct timeval tv = {GREET_DEADLINE_MS / 1000, 0};
	struct greeting *g = calloc(1, sizeof(*g));
	struct err e;

	if (g == NULL) {
		tls_free(tls);
		close(fd);
		return;
	}
	TAILQ_INSERT_TAIL(&greetings, g, next);
	if (++ngreetings > GREET_MOST) {
		stranger_log(LOG_WARN, "peer",
			"%u connections said no hello yet, the oldest was closed", GREET_MOST);
		greeting_free(TAILQ_FIRST(&greetings));
	}
	g->host = h;
	g->conn = conn_new(h->base, fd, tls, &e);
	g->deadline = event_new(h->base, -1, 0, on_greeting_late, g);
	g->again = event_new(h->base, -1, 0, on_again, g);
	if (g->conn == NULL || g->deadline == NULL || g->again == NULL) {
		stranger_log(LOG_WARN, "peer", "a connection was dropped: %s", e.text);
		greeting_free(g);
		return;
	}
	event_add(g->deadline, &tv);
	if (tls == NULL && h->tls != NULL) {
		err_set(&e, EACCES,
			"the target's Godwit wants TLS, and the source speaks plain text: name "
			"keys "
			"at the source, or `insecure` on both hosts");
		greeting_refuse(g, &e);
		return;
	}
	conn_own(g->conn, &greeting_ops, g);
}

struct flow_search {
	const struct preamble *p;
	struct session *found;
};

static void match_token(void *arg, struct session *s)
{
	struct flow_search *f = arg;

	if (!s->source && s->have_token && s->state < SESSION_ENDING &&
		memcmp(s->token, f->p->token, TOKEN_BYTES) == 0)
		f->found = s;
}

void session_accept(struct session_host *h, int fd, struct tls *tls, const struct preamble *p)
{
	struct flow_search f = {.p = p};

	if (p->kind != PREAMBLE_FLOW) {
		accept_control(h, fd, tls);
		return;
	}
	session_each(match_token, &f);
	if (f.found == NULL) {
		stranger_log(LOG_WARN, "peer", "a flow with an unknown token was refused");
		close(fd);
		return;
	}
	target_flow(f.found, fd, p->flow);
}
