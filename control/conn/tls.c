// SPDX-License-Identifier: BSD-3-Clause
// TLS of a connection between daemons: handshake, checks of the other side's certificate, keys.
// Run by the control loop. The host's keys and rules are tls_host.c's.
//
// Invariants: TLS 1.3 or nothing; no session is resumed, so keys are always new; a certificate that
// fails any check ends the handshake, and the first failure is what is told.

#include "tls_impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "identity.h"

#define ALERT_REASONS 1000 /* SSL_AD_REASON_OFFSET: reasons from here on are the peer's alerts */

/* One name of a certificate as text; false: it is of a kind that does not count. */
static bool name_text(const GENERAL_NAME *g, char text[IDENTITY_BYTES])
{
	const unsigned char *data;
	int bytes;

	if (g->type != GEN_DNS && g->type != GEN_IPADD)
		return false;
	data = ASN1_STRING_get0_data(g->d.ia5);
	bytes = ASN1_STRING_length(g->d.ia5);
	if (g->type == GEN_IPADD)
		return (bytes == 4 || bytes == 16) &&
		       inet_ntop(bytes == 4 ? AF_INET : AF_INET6, data, text, IDENTITY_BYTES);
	if (bytes <= 0 || bytes >= (int)IDENTITY_BYTES)
		return false;
	memcpy(text, data, (size_t)bytes);
	text[bytes] = '\0';
	return strlen(text) == (size_t)bytes && identity_is_name(text, false);
}

void tls_names(X509 *x, char *out, size_t room, bool (*fn)(void *arg, const char *name), void *arg)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	char text[IDENTITY_BYTES];
	size_t at = 0;

	out[0] = '\0';
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		if (!name_text(sk_GENERAL_NAME_value(names, i), text))
			continue;
		if (fn != NULL)
			fn(arg, text);
		if (at < room)
			at += (size_t)snprintf(
				out + at, room - at, "%s%s", at > 0 ? ", " : "", text);
	}
	GENERAL_NAMES_free(names);
}

struct search {
	const struct tls *t;
	bool allowed, called;
};

static bool look(void *arg, const char *name)
{
	struct search *s = arg;

	s->allowed |= identity_listed(s->t->host->allow, name);
	s->called |= s->t->called || identity_matches(s->t->want, name);
	return true;
}

/* The chain is good: may this name take part, and is it who was called? */
static bool check_names(struct tls *t, X509 *x)
{
	struct search s = {.t = t};

	tls_names(x, t->peer, sizeof(t->peer), look, &s);
	if (!s.allowed)
		err_set(&t->why, EACCES,
			"its certificate is for %s, of which `allow` lists none: add the name "
			"there if that host may take part",
			t->peer[0] ? t->peer : "no name at all");
	else if (!s.called)
		err_set(&t->why, EACCES,
			"%s was called and its certificate is for %s: call it by one of its "
			"names, or give the right one with --peer",
			t->want, t->peer);
	return s.allowed && s.called;
}

/* What failed, in words: the certificate, the check, the cure. */
static void explain(struct tls *t, X509_STORE_CTX *ctx)
{
	int bad = X509_STORE_CTX_get_error(ctx);
	X509 *x = X509_STORE_CTX_get_current_cert(ctx);
	const char *which = X509_STORE_CTX_get_error_depth(ctx) == 0
				    ? "its certificate"
				    : "its authority's certificate";
	char names[200] = "";
	const char *what;

	if (x != NULL && X509_STORE_CTX_get_error_depth(ctx) == 0)
		tls_names(x, names, sizeof(names), NULL, NULL);
	switch (bad) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
		what = "has expired: make a new one (`godwit keys` does)";
		break;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		what = "is not valid yet: compare the clocks of both hosts";
		break;
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
		what = "is signed by itself and not by an authority of authority.pem";
		break;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		what = "is not signed by an authority of authority.pem";
		break;
	case X509_V_ERR_CERT_REVOKED:
		what = "is revoked by the list of `crl`";
		break;
	case X509_V_ERR_UNABLE_TO_GET_CRL:
		what = "can't be checked: the list of `crl` is not by its authority";
		break;
	case X509_V_ERR_CRL_HAS_EXPIRED:
		what = "can't be checked: the list of `crl` is too old, get a new one";
		break;
	case X509_V_ERR_CRL_SIGNATURE_FAILURE:
		what = "can't be checked: the list of `crl` is not signed by its authority";
		break;
	case X509_V_ERR_INVALID_PURPOSE:
		what = "is not made for TLS servers and clients, as a host's must be";
		break;
	default:
		err_set(&t->why, EACCES, "%s (%s): %s", which, names,
			X509_verify_cert_error_string(bad));
		return;
	}
	err_set(&t->why, EACCES, "%s%s%s%s %s", which, names[0] ? " (" : "", names,
		names[0] ? ")" : "", what);
}

int tls_verify(int good, X509_STORE_CTX *ctx)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls *t = SSL_get_app_data(ssl);

	if (!good) {
		if (t->why.errnum == 0)
			explain(t, ctx);
		return 0;
	}
	if (X509_STORE_CTX_get_error_depth(ctx) > 0)
		return 1;
	if (check_names(t, X509_STORE_CTX_get_current_cert(ctx)))
		return 1;
	X509_STORE_CTX_set_error(ctx, X509_V_ERR_HOSTNAME_MISMATCH);
	return 0;
}

struct tls *tls_new(struct tls_host *h, int fd, bool called, const char *peer, struct err *e)
{
	struct tls *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		err_set(e, ENOMEM, "TLS: no memory");
		return NULL;
	}
	if (tls_host_fresh(h, e) < 0) {
		free(t);
		return NULL;
	}
	t->host = h;
	t->called = called;
	snprintf(t->want, sizeof(t->want), "%s", peer != NULL ? peer : "");
	t->ssl = SSL_new(h->ctx);
	if (t->ssl == NULL || SSL_set_fd(t->ssl, fd) != 1) {
		err_set(e, ENOMEM, "TLS: no memory");
		tls_free(t);
		return NULL;
	}
	SSL_set_app_data(t->ssl, t);
	if (called)
		SSL_set_accept_state(t->ssl);
	else
		SSL_set_connect_state(t->ssl);
	return t;
}

void tls_free(struct tls *t)
{
	if (t == NULL)
		return;
	SSL_free(t->ssl);
	free(t);
}

static bool is_alert(unsigned long queued)
{
	return ERR_GET_LIB(queued) == ERR_LIB_SSL && ERR_GET_REASON(queued) >= ALERT_REASONS;
}

/* From OpenSSL's queue of errors. */
static void say_why(unsigned long queued, int errnum, struct err *e)
{
	int reason = ERR_GET_REASON(queued);

	if (ERR_SYSTEM_ERROR(queued))
		err_sys(e, reason, "TLS");
	else if (queued == 0 && errnum != 0)
		err_sys(e, errnum, "TLS");
	else if (queued == 0 || reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		err_set(e, ECONNRESET, "the other side closed the connection");
	else if (is_alert(queued))
		err_set(e, EACCES,
			"the other side refuses this host (TLS alert: %s): its log says which "
			"check failed",
			SSL_alert_desc_string_long(reason - ALERT_REASONS));
	else if (ERR_reason_error_string(queued) != NULL)
		err_set(e, EPROTO, "TLS: %s", ERR_reason_error_string(queued));
	else
		err_set(e, EPROTO, "TLS failed (error %lx of OpenSSL)", queued);
}

static int refused(struct tls *t, int how, int errnum, struct err *e)
{
	unsigned long queued = ERR_peek_last_error();
	bool gone = how == SSL_ERROR_SYSCALL ||
		    ERR_GET_REASON(queued) == SSL_R_UNEXPECTED_EOF_WHILE_READING;

	if (t->why.errnum != 0)
		*e = t->why;
	else if (gone && !t->called)
		err_set(e, ECONNRESET,
			"the other side closed the connection instead of a TLS handshake: it "
			"may be `insecure`, or no godwitd; see its log");
	else
		say_why(queued, errnum, e);
	ERR_clear_error();
	return -e->errnum;
}

int tls_step(struct tls *t, struct err *e)
{
	int rc, errnum;

	ERR_clear_error();
	errno = 0;
	rc = SSL_do_handshake(t->ssl);
	errnum = errno;
	if (rc == 1)
		return 0;
	switch (SSL_get_error(t->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
		return EV_READ;
	case SSL_ERROR_WANT_WRITE:
		return EV_WRITE;
	default:
		return refused(t, SSL_get_error(t->ssl, rc), errnum, e);
	}
}

const char *tls_peer(const struct tls *t)
{
	return t->peer;
}

struct bufferevent *tls_bufferevent(struct tls *t, struct event_base *base)
{
	return bufferevent_openssl_socket_new(
		base, SSL_get_fd(t->ssl), t->ssl, BUFFEREVENT_SSL_OPEN, 0);
}

void tls_why(struct tls *t, struct bufferevent *bev, struct err *e)
{
	int errnum = EVUTIL_SOCKET_ERROR();
	unsigned long queued = bufferevent_get_openssl_error(bev);
	char byte;

	/* In TLS 1.3 a client may write before it knows that it was refused: the write fails, and
	 * the alert that says so waits to be read. */
	ERR_clear_error();
	if (!is_alert(queued) && SSL_peek(t->ssl, &byte, 1) <= 0 && is_alert(ERR_peek_last_error()))
		queued = ERR_peek_last_error();
	/* What libevent hands on where the socket failed, and not TLS. */
	if (queued == SSL_ERROR_SYSCALL)
		queued = 0;
	say_why(queued, errnum == EAGAIN ? 0 : errnum, e);
	ERR_clear_error();
}

void tls_flush(struct tls *t, struct evbuffer *out)
{
	size_t left;

	ERR_clear_error();
	while ((left = evbuffer_get_length(out)) > 0) {
		int n = SSL_write(t->ssl, evbuffer_pullup(out, -1), (int)left);

		if (n <= 0)
			break;
		evbuffer_drain(out, (size_t)n);
	}
	if (left == 0)
		SSL_shutdown(t->ssl);
	ERR_clear_error();
}

struct match {
	const char *name;
	bool found;
};

static bool matches(void *arg, const char *name)
{
	struct match *m = arg;

	m->found |= identity_matches(m->name, name);
	return true;
}

/* Not in the text of tls_peer(), which may be cut. */
bool tls_peer_is(const struct tls *t, const char *name)
{
	X509 *x = SSL_get0_peer_certificate(t->ssl);
	struct match m = {.name = name};
	char text[IDENTITY_BYTES];

	if (x != NULL)
		tls_names(x, text, sizeof(text), matches, &m);
	return m.found;
}

bool tls_export(struct tls *t, const char *label, const void *context, size_t context_bytes,
	uint8_t *out, size_t bytes)
{
	return SSL_export_keying_material(
		       t->ssl, out, bytes, label, strlen(label), context, context_bytes, 1) == 1;
}
