// SPDX-License-Identifier: BSD-3-Clause
// Requests between the two daemons of a session. The source asks, one request at a time:
// {"op": stage, "seq": n, ...}; the target answers {"re": n, "ok": true, ...}. Either may say
// {"op": "abort", "error": sentence} and end the session.

#include "session_impl.h"

#include "can.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

bool peer_get_text(json_t *msg, const char *key, char *dst, size_t bytes, struct err *e)
{
	const json_t *v = json_object_get(msg, key);

	if (!json_is_string(v) || json_string_length(v) >= bytes) {
		err_set(e, EPROTO,
			"message from the other daemon: %s is not a text of up to %zu bytes", key,
			bytes - 1);
		return false;
	}
	memcpy(dst, json_string_value(v), json_string_length(v) + 1);
	return true;
}

bool peer_get_u64(json_t *msg, const char *key, uint64_t max, uint64_t *v, struct err *e)
{
	const json_t *j = json_object_get(msg, key);

	if (!json_is_integer(j) || json_integer_value(j) < 0 ||
		(uint64_t)json_integer_value(j) > max) {
		err_set(e, EPROTO, "message from the other daemon: %s is not a number up to %llu",
			key, (unsigned long long)max);
		return false;
	}
	*v = (uint64_t)json_integer_value(j);
	return true;
}

void peer_token_text(const uint8_t token[TOKEN_BYTES], char text[TOKEN_TEXT])
{
	for (unsigned i = 0; i < TOKEN_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02x", token[i]);
}

bool peer_get_token(json_t *msg, const char *key, uint8_t token[TOKEN_BYTES], struct err *e)
{
	char text[TOKEN_TEXT];

	if (!peer_get_text(msg, key, text, sizeof(text), e))
		return false;
	if (strlen(text) != 2 * TOKEN_BYTES ||
		strspn(text, "0123456789abcdef") != 2 * TOKEN_BYTES) {
		err_set(e, EPROTO, "message from the other daemon: %s is no token", key);
		return false;
	}
	for (unsigned i = 0; i < TOKEN_BYTES; i++) {
		char byte[3] = {text[2 * i], text[2 * i + 1]};

		token[i] = (uint8_t)strtoul(byte, NULL, 16);
	}
	return true;
}

json_t *peer_new_token(struct session *s, struct err *e)
{
	char text[TOKEN_TEXT];

	if (getrandom(s->token, sizeof(s->token), 0) != (ssize_t)sizeof(s->token)) {
		err_sys(e, errno, "cannot get random bytes for the flows' token");
		return NULL;
	}
	s->have_token = true;
	peer_token_text(s->token, text);
	return json_pack("{s:s}", "token", text);
}

struct dial *peer_dial(struct session *s, unsigned deadline_ms, dial_fn done, struct err *e)
{
	struct tls_host *tls = s->host->tls;
	struct preamble p = {.kind = tls != NULL ? PREAMBLE_CONTROL_TLS : PREAMBLE_CONTROL};
	struct dial *d = dial_new(s->host->base, s->opt.to, &p, deadline_ms, done, s, e);

	if (d != NULL && tls != NULL)
		dial_secure(d, tls, s->opt.peer);
	return d;
}

bool peer_speaks(struct session *s, json_t *hello)
{
	uint64_t protocol;
	struct err e;

	if (!peer_get_u64(hello, "protocol", UINT32_MAX, &protocol, &e)) {
		session_fail(s, &e);
		return false;
	}
	if (protocol != SESSION_PROTOCOL)
		err_set(&e, EPROTO,
			"the target's Godwit speaks control protocol %llu and this one (%s) speaks "
			"%d; install the same version on both hosts",
			(unsigned long long)protocol, GODWIT_VERSION, SESSION_PROTOCOL);
	else if (can_read(hello, &e) == 0)
		return true;
	session_fail(s, &e);
	return false;
}

json_t *peer_tell(const struct session *s)
{
	return can_tell(s->host->ports->n > 0, s->host->rdma != NULL);
}

int peer_can(struct session *s, const char *list, const char *name, struct err *e)
{
	json_t *ours = peer_tell(s);
	int rc = can_need(ours, s->source, s->peer, list, name, e);

	json_decref(ours);
	return rc;
}

int peer_can_all(struct session *s, struct err *e)
{
	int rc = peer_can(s, "links", s->opt.link, e);

	if (rc == 0)
		rc = peer_can(s, "seals", session_seal_name(s), e);
	for (const struct codec_ops *const *c = codec_table; rc == 0 && *c != NULL; c++)
		if (s->opt.codec == *c || s->opt.codec == &codec_auto)
			rc = peer_can(s, "codecs", (*c)->name, e);
	if (rc == 0)
		rc = peer_can(s, "features", "keep", e);
	if (rc == 0 && s->opt.verify == VERIFY_MEMORY)
		rc = peer_can(s, "features", "verify", e);
	if (rc == 0 && s->opt.skip_balloon)
		rc = peer_can(s, "features", "balloon", e);
	if (rc == 0 && s->reconnect.wait_ns != 0)
		rc = peer_can(s, "features", "resume", e);
	return rc;
}

void peer_ask(struct session *s, json_t *msg, peer_fn answered)
{
	s->answered = answered;
	if (json_object_get(msg, "op") == NULL)
		json_object_set_new(msg, "op", json_string(stage_table[s->stage].name));
	json_object_set_new(msg, "seq", json_integer(++s->ask_seq));
	/* A connection that is broken says so through closed(). */
	conn_send(s->conn, msg);
}

void peer_answer(struct session *s, json_t *fields)
{
	json_t *msg = fields != NULL ? fields : json_object();

	if (s->conn == NULL || s->reply_seq == 0) {
		json_decref(msg);
		return;
	}
	json_object_set_new(msg, "re", json_integer(s->reply_seq));
	json_object_set_new(msg, "ok", json_true());
	s->reply_seq = 0;
	conn_send(s->conn, msg);
	stage_tell(s);
}

void peer_abort(struct session *s, const struct err *why)
{
	if (s->conn != NULL)
		conn_send(s->conn,
			json_pack("{s:s, s:s, s:i, s:b}", "op", "abort", "error", why->text,
				"errno", why->errnum, "taken", !session_before_commit(s)));
}

static void on_abort(struct session *s, json_t *msg)
{
	struct err e = {.errnum = ECONNABORTED};
	const char *text = json_string_value(json_object_get(msg, "error"));
	bool committed =
		s->source && (s->state == SESSION_COMMITTING || s->state == SESSION_UNDECIDED);

	snprintf(e.text, sizeof(e.text), "the %s's daemon ended the session: %.200s",
		s->source ? "target" : "source", text != NULL ? text : "it gave no reason");
	/* A target that ended before it took the commit up never will: that is as good as refused.
	 * Any other word after the commit leaves open who owns the guest. */
	if (committed && s->stage == stage_find("commit") &&
		json_is_false(json_object_get(msg, "taken")))
		handover_give_back(s, &e);
	else if (committed)
		handover_silence(s, &e);
	else if (s->source && stage_find("prepare") > s->stage)
		session_end(s, RESULT_REFUSED, &e);
	else if (!target_waits_again(s, &e))
		session_fail(s, &e);
}

static void on_answer(struct session *s, json_t *msg)
{
	const json_t *re = json_object_get(msg, "re");
	peer_fn fn = s->answered;

	if (fn == NULL || !json_is_integer(re) ||
		json_integer_value(re) != (json_int_t)s->ask_seq) {
		session_failf(s, EPROTO, "the target's daemon answered what was not asked");
		return;
	}
	s->answered = NULL;
	fn(s, msg);
}

static void on_request(struct session *s, const char *op, json_t *msg)
{
	unsigned stage = stage_find(op);
	const json_t *seq = json_object_get(msg, "seq");
	unsigned next = s->stage + 1;

	/* Requests come once each, in the order of the table. */
	while (next < stage_count && stage_table[next].target == NULL)
		next++;
	if (stage < stage_count && strcmp(op, "verify") != 0 && next < stage_count &&
		strcmp(stage_table[next].name, "verify") == 0)
		next = stage_find("load"); /* not every session verifies memory */
	if (stage == stage_count || stage != next || s->reply_seq != 0 || !json_is_integer(seq) ||
		json_integer_value(seq) <= 0 || json_integer_value(seq) > UINT32_MAX) {
		session_failf(s, EPROTO,
			"the source's daemon asked for \"%.32s\" when \"%s\" was next", op,
			next < stage_count ? stage_table[next].name : "nothing");
		return;
	}
	s->reply_seq = (uint32_t)json_integer_value(seq);
	s->stage = stage;
	s->stage_ns = clock_ns();
	session_set_state(s, stage_table[stage].state);
	stage_table[stage].target(s, msg);
}

static void on_json(void *arg, json_t *msg)
{
	struct session *s = arg;
	const char *op = json_string_value(json_object_get(msg, "op"));

	if (s->state == SESSION_ENDING || s->state == SESSION_ENDED)
		return;
	if (op != NULL && strcmp(op, "abort") == 0)
		on_abort(s, msg);
	else if (s->state == SESSION_RECONNECTING && (!s->source || s->reconnect.leaving))
		return; /* what it still had to say before it noticed */
	else if (s->source && op != NULL && strcmp(op, "rdma_keys") == 0 &&
		 session_before_commit(s))
		flows_rdma_hear_keys(s, msg);
	else if (s->source)
		on_answer(s, msg);
	else if (op != NULL && strcmp(op, "rdma_windows") == 0 && flows_rdma_turning(s))
		flows_rdma_hear_windows(s, msg);
	else if (op != NULL)
		on_request(s, op, msg);
	else
		session_failf(s, EPROTO, "the source's daemon sent a message without \"op\"");
}

static void on_blob(void *arg, const uint8_t *data, size_t bytes)
{
	struct session *s = arg;

	if (s->state == SESSION_ENDING || s->state == SESSION_ENDED ||
		s->state == SESSION_RECONNECTING)
		return;
	if (s->source)
		session_failf(s, EPROTO, "the target's daemon sent data that nobody asked for");
	else
		target_blob(s, data, bytes);
}

static void on_closed(void *arg, const struct err *why)
{
	struct session *s = arg;
	struct err e = {.errnum = why->errnum};

	snprintf(e.text, sizeof(e.text), "the connection to the %s's daemon is gone: %.200s",
		s->source ? "target" : "source", why->text);
	conn_free(s->conn);
	s->conn = NULL;
	if (s->source && (s->state == SESSION_COMMITTING || s->state == SESSION_UNDECIDED))
		handover_silence(s, &e);
	else if (!s->source && s->state == SESSION_COMMITTING)
		return; /* the guest was committed to this side: it goes on without the source */
	else if (!target_waits_again(s, &e))
		reconnect_or_fail(s, &e);
}

const struct conn_ops peer_ops = {on_json, on_blob, on_closed};
