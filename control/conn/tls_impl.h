/* SPDX-License-Identifier: BSD-3-Clause */
/* What tls.c (a connection) and tls_host.c (this host's keys and rules) share. */
#ifndef GODWIT_CONTROL_TLS_IMPL_H
#define GODWIT_CONTROL_TLS_IMPL_H

#include <openssl/ssl.h>
#include <sys/stat.h>

#include "identity.h"
#include "tls.h"

enum tls_file { TLS_CERT, TLS_KEY, TLS_AUTHORITY, TLS_CRL, TLS_FILES };

struct tls_host {
	SSL_CTX *ctx;
	char *path[TLS_FILES]; /* TLS_CRL: NULL for none */
	char *allow;
	struct stat seen[TLS_FILES]; /* when they were read */
	char names[IDENTITY_BYTES];
};

struct tls {
	struct tls_host *host;
	SSL *ssl;
	bool called;
	char want[IDENTITY_BYTES]; /* name that was called */
	char peer[IDENTITY_BYTES];
	struct err why; /* the check that failed */
};

/* Reads the files again if one has changed. 0 or -errno with e set. */
int tls_host_fresh(struct tls_host *h, struct err *e);
/* OpenSSL's call for each certificate of a chain. */
int tls_verify(int good, X509_STORE_CTX *ctx);
/* The names of a certificate, "a, b" cut to room; fn, unless NULL, is called for each. */
void tls_names(X509 *x, char *out, size_t room, bool (*fn)(void *arg, const char *name), void *arg);

#endif
