/* SPDX-License-Identifier: BSD-3-Clause */
/* TLS 1.3 between daemons, with certificates on both sides. OpenSSL's TLS stays behind this file.
 * Control loop only.
 *
 * A folder holds host.pem (this host's certificate, then those between it and the authority),
 * host.key, and authority.pem (one or more that are believed). The other side's certificate must be
 * signed by an authority, in its time, not revoked by the list, and bear a name of `allow`; that
 * of the side that was called must bear the name that was called, too. The first check that fails
 * is named in the error, on the side that made it; the other side learns an alert. The files are
 * read again when they have changed; while they are wrong, no connection is made. */
#ifndef GODWIT_CONTROL_TLS_H
#define GODWIT_CONTROL_TLS_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

struct bufferevent;
struct evbuffer;
struct tls_host; /* this host's keys and rules */
struct tls;      /* one connection */

struct tls_config {
	const char *dir;
	const char *crl;   /* file of revoked certificates (PEM); NULL: none */
	const char *allow; /* names that may take part, see identity.h */
};

/* 0, or -errno with e set. The texts are copied. */
int tls_host_new(struct tls_host **h, const struct tls_config *c, struct err *e);
void tls_host_free(struct tls_host *h); /* NULL is allowed */
/* The names of this host's certificate, "a, b". */
const char *tls_host_names(const struct tls_host *h);

/* A handshake on a connected, non-blocking socket, which is borrowed. called: the other side
 * connected to us; else peer is the name that its certificate must bear. NULL with e set. */
struct tls *tls_new(struct tls_host *h, int fd, bool called, const char *peer, struct err *e);
/* Goes on with it. 0: done; EV_READ or EV_WRITE: call again then; -errno with e set: refused. */
int tls_step(struct tls *t, struct err *e);
/* Without a farewell. NULL is allowed. */
void tls_free(struct tls *t);

/* After the handshake. */
/* The names of the other side's certificate, "a, b". */
const char *tls_peer(const struct tls *t);
/* Is one of them this one? */
bool tls_peer_is(const struct tls *t, const char *name);
/* A bufferevent for the connection, which borrows t and its socket. NULL: no memory. */
struct bufferevent *tls_bufferevent(struct tls *t, struct event_base *base);
/* What an error of that bufferevent meant. */
void tls_why(struct tls *t, struct bufferevent *bev, struct err *e);
/* Sends what is left as far as the socket takes it at once, and a farewell. */
void tls_flush(struct tls *t, struct evbuffer *out);
/* RFC 8446 section 7.5: keys that only the two ends of this connection can make. false: it failed.
 */
bool tls_export(struct tls *t, const char *label, const void *context, size_t context_bytes,
	uint8_t *out, size_t bytes);

#endif
