// SPDX-License-Identifier: BSD-3-Clause
// What the target does for each request of the source, but for the commit (handover.c). Requests
// come in the order of the stage table; each is answered, or the session fails and says why.

#include "session_impl.h"

#include "clock.h"
#include "describe.h"
#include "godwit.h"
#include "lcore.h"
#include "reserve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define VMM_DEADLINE_MS   20000
#define SOURCE_WAIT_MS    60000 /* for the next request, outside of the copying */
#define GREET_DEADLINE_MS 5000

static bool over(const struct session *s)
{
	return s->state == SESSION_ENDING || s->state == SESSION_ENDED;
}

static void on_gone(void *arg, const struct err *why)
{
	struct session *s = arg;

	/* While the guest is being taken over, the answer to that request decides. */
	if (!over(s) && s->state != SESSION_COMMITTING)
		session_fail(s, why);
}

static void on_vmm(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;

	if (over(s))
		return;
	if (a->status < 0) {
		session_fail(s, &a->why);
	} else if (s->vmm->state != GODWIT_INCOMING && s->vmm->state != GODWIT_LOADED) {
		session_failf(s, EBUSY,
			"the VMM at %s does not wait for a guest; start it as incoming", s->agent);
	} else {
		s->vmm_ready = true;
		log_info(s->name, "waits for its source");
		watch_state(s);
	}
}

int session_receive(struct session_host *h, const struct receive_options *o, struct session **out,
	struct err *e)
{
	struct session *s = session_new(h, o->name, o->agent, false, e);

	if (s == NULL)
		return -e->errnum;
	if (vmm_agent_open(&s->vmm, h->base, s->agent, VMM_DEADLINE_MS, on_vmm, s, e) < 0) {
		s->vmm = NULL;
		session_fail(s, e);
		return -e->errnum;
	}
	s->vmm->gone = on_gone;
	s->vmm->gone_arg = s;
	*out = s;
	return 0;
}

void target_hello(struct session *s, struct conn *c, json_t *msg)
{
	s->conn = c;
	s->stage = stage_find("hello");
	s->reply_seq = (uint32_t)json_integer_value(json_object_get(msg, "seq"));
	conn_own(c, &peer_ops, s);
	session_set_state(s, SESSION_PREPARING);
	peer_answer(s, json_pack("{s:i, s:s, s:s}", "protocol", SESSION_PROTOCOL, "godwit",
			       GODWIT_VERSION, "hypervisor", s->vmm->hello.hypervisor));
}

void target_preflight(struct session *s, json_t *msg)
{
	char codec[32], link[16];
	uint64_t flows, populated;
	struct err e;

	if (!peer_get_text(msg, "codec", codec, sizeof(codec), &e) ||
		!peer_get_text(msg, "link", link, sizeof(link), &e) ||
		!peer_get_u64(msg, "flows", SESSION_FLOWS, &flows, &e) ||
		!peer_get_u64(msg, "populated_bytes", REGION_TOTAL_MAX, &populated, &e) ||
		describe_compare(json_object_get(msg, "regions"), &s->vmm->map, &e) < 0) {
		session_fail(s, &e);
		return;
	}
	if (strcmp(link, "tcp") != 0 || codec_by_name(codec) == NULL || flows == 0) {
		session_failf(s, ENOTSUP,
			"the target's Godwit has no link %s or codec %s; install the same version "
			"on "
			"both hosts",
			link, codec);
		return;
	}
	if (reserve_check(&s->vmm->map, populated, session_reserved_bytes(), &e) < 0) {
		session_fail(s, &e);
		return;
	}
	s->reserved_bytes = populated;
	s->fig.populated_bytes = populated;
	s->nflows = (unsigned)flows;
	s->peer = json_incref(msg);
	peer_answer(s, NULL);
}

void target_prepare(struct session *s, json_t *msg)
{
	struct region_map *map = &s->vmm->map;
	char hex[2 * TOKEN_BYTES + 1];
	struct err e;

	(void)msg;
	for (unsigned i = 0; i < map->n; i++)
		if (region_mmap(&map->r[i], true, &e) < 0) {
			session_fail(s, &e);
			return;
		}
	reserve_find_nodes(map);
	if (handover_begin(s, &e) < 0 || recv_job_init(&s->recv, map, &e) < 0) {
		session_fail(s, &e);
		return;
	}
	s->have_recv = true;
	if (getrandom(s->token, sizeof(s->token), 0) != (ssize_t)sizeof(s->token)) {
		session_failf(s, errno, "cannot get random bytes for the flows' token");
		return;
	}
	s->have_token = true;
	for (unsigned i = 0; i < TOKEN_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", s->token[i]);
	peer_answer(s, json_pack("{s:s}", "token", hex));
	session_tick_every(s, 2000);
}

void target_flow(struct session *s, int fd, uint32_t i)
{
	struct link *link;
	unsigned lcore;
	struct err e;
	int rc;

	if (i >= s->nflows || s->flow[i] != NULL) {
		close(fd);
		log_warn(s->name,
			"a connection for flow %u was refused: there is no such flow, or "
			"it is up already",
			i);
		return;
	}
	lcore = lcore_pick(-1);
	rc = link_tcp_open(&link, fd, false, (int)lcore_node(lcore), &e);
	if (rc == 0)
		rc = flow_recv_new(&s->flow[i], &s->recv, link, lcore, (int)lcore_node(lcore), &e);
	if (rc == 0) {
		rc = flow_attach(s->flow[i]);
		if (rc < 0)
			err_sys(&e, -rc, "cannot give flow %u to core %u", i, lcore_cpu(lcore));
	}
	if (rc < 0) {
		session_fail(s, &e);
		return;
	}
	s->attached[i] = true;
	if (++s->flows_up == s->nflows && s->stage == stage_find("flows"))
		peer_answer(s, NULL);
}

void target_flows(struct session *s, json_t *msg)
{
	(void)msg;
	if (s->flows_up == s->nflows)
		peer_answer(s, NULL);
}

void target_save(struct session *s, json_t *msg)
{
	uint64_t bytes, crc;
	struct err e;

	if (!peer_get_u64(msg, "bytes", SPOOL_BYTES_MAX, &bytes, &e) ||
		!peer_get_u64(msg, "crc", UINT32_MAX, &crc, &e) ||
		spool_new(&s->spool, bytes, (uint32_t)crc, &e) < 0)
		session_fail(s, &e);
	s->fig.state_bytes = bytes;
}

void target_blob(struct session *s, const uint8_t *data, size_t bytes)
{
	struct err e;

	if (s->spool == NULL || spool_full(s->spool)) {
		session_failf(s, EPROTO, "the source's daemon sent data that nobody asked for");
		return;
	}
	if (spool_add(s->spool, data, bytes, &e) < 0 ||
		(spool_full(s->spool) && spool_check(s->spool, &e) < 0)) {
		session_fail(s, &e);
		return;
	}
	if (spool_full(s->spool))
		peer_answer(s, NULL);
}

static void on_digest(void *arg, const struct verify_result *r)
{
	struct session *s = arg;

	if (over(s))
		return;
	if (r->status < 0) {
		session_failf(s, -r->status, "cannot take the digest of the guest's memory");
		return;
	}
	s->fig.verified_pages = r->pages;
	s->fig.verify_ns = r->ns;
	peer_answer(s, json_pack("{s:s, s:I}", "digest", r->digest, "pages", (json_int_t)r->pages));
}

void target_verify(struct session *s, json_t *msg)
{
	struct err e;

	(void)msg;
	if (verify_start(&s->verify, s->host->base, &s->vmm->map, on_digest, s, &e) < 0)
		session_fail(s, &e);
}

static void on_loaded(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;

	if (over(s))
		return;
	if (a->status < 0) {
		session_fail(s, &a->why);
		return;
	}
	s->loaded = true;
	peer_answer(s, NULL);
}

/* Law 9: all pages are placed (the source has every barrier's answer), the state is whole. */
void target_load(struct session *s, json_t *msg)
{
	(void)msg;
	if (s->spool == NULL || !spool_full(s->spool)) {
		session_failf(
			s, EPROTO, "the source asked to load device state that it did not send");
		return;
	}
	vmm_ask(s->vmm, AGENT_LOAD, s->spool->bytes, 0, s->spool->fd, on_loaded, s);
}

/* A control connection whose session is not known yet. */
struct greeting {
	struct session_host *host;
	struct conn *conn;
	struct event *deadline;
};

static void greeting_free(struct greeting *g)
{
	if (g->deadline != NULL)
		event_free(g->deadline);
	conn_free(g->conn);
	free(g);
}

static void greeting_refuse(struct greeting *g, const struct err *e)
{
	log_warn("peer", "%s: %s", conn_peer_name(g->conn), e->text);
	conn_send(g->conn,
		json_pack("{s:s, s:s, s:i}", "op", "abort", "error", e->text, "errno", e->errnum));
	greeting_free(g);
}

static void on_greeting(void *arg, json_t *msg)
{
	struct greeting *g = arg;
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
	if (strcmp(op, "hello") != 0 || protocol != SESSION_PROTOCOL)
		err_set(&e, EPROTO,
			"the target's Godwit %s speaks control protocol %d and not %llu; install "
			"the "
			"same version on both hosts",
			GODWIT_VERSION, SESSION_PROTOCOL, (unsigned long long)protocol);
	else if (s == NULL || s->source || s->state == SESSION_ENDED)
		err_set(&e, ENOENT,
			"nobody waits for %s here; run `godwit receive %s` on the target first",
			name, name);
	else if (s->state != SESSION_WAITING || !s->vmm_ready)
		err_set(&e, EBUSY, "session %s is not waiting for a source (%s)", name,
			session_state_name[s->state]);
	else
		e.errnum = 0;
	if (e.errnum != 0) {
		greeting_refuse(g, &e);
		return;
	}
	c = g->conn;
	g->conn = NULL;
	greeting_free(g);
	log_info(s->name, "comes from %s", conn_peer_name(c));
	target_hello(s, c, msg);
}

static void on_greeting_closed(void *arg, const struct err *why)
{
	struct greeting *g = arg;

	log_info("peer", "%s: %s", conn_peer_name(g->conn), why->text);
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

static void accept_control(struct session_host *h, int fd)
{
	struct timeval tv = {GREET_DEADLINE_MS / 1000, 0};
	struct greeting *g = calloc(1, sizeof(*g));
	struct err e;

	if (g == NULL) {
		close(fd);
		return;
	}
	g->host = h;
	g->conn = conn_new(h->base, fd, &e);
	g->deadline = event_new(h->base, -1, 0, on_greeting_late, g);
	if (g->conn == NULL || g->deadline == NULL) {
		log_warn("peer", "a connection was dropped: %s", e.text);
		greeting_free(g);
		return;
	}
	event_add(g->deadline, &tv);
	conn_own(g->conn, &greeting_ops, g);
}

struct flow_search {
	const struct preamble *p;
	struct session *found;
};

static void match_token(void *arg, struct session *s)
{
	struct flow_search *f = arg;

	if (!s->source && s->have_token && !over(s) &&
		memcmp(s->token, f->p->token, TOKEN_BYTES) == 0)
		f->found = s;
}

void session_accept(struct session_host *h, int fd, const struct preamble *p)
{
	struct flow_search f = {.p = p};

	if (p->kind == PREAMBLE_CONTROL) {
		accept_control(h, fd);
		return;
	}
	session_each(match_token, &f);
	if (f.found == NULL) {
		log_warn("peer", "a flow with an unknown token was refused");
		close(fd);
		return;
	}
	target_flow(f.found, fd, p->flow);
}
