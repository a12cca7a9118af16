// SPDX-License-Identifier: BSD-3-Clause
// This host's keys and rules for TLS: reads and checks the files, and again when they have changed,
// so that certificates with short lives and lists of revoked ones need no restart. Run at the start
// and by the control loop.

#include "tls_impl.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#define CIPHERS "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

static const char *const file_name[TLS_CRL] = {"host.pem", "host.key", "authority.pem"};

/* The reason that OpenSSL gives, or the system's. */
static int bad_file(const struct tls_host *h, enum tls_file f, const char *what, struct err *e)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	err_set(e, EINVAL, "%s %s: %s; `godwit keys` makes what is needed", h->path[f], what,
		reason != NULL ? reason : "the file does not hold it");
	ERR_clear_error();
	return -EINVAL;
}

static int look_at(const struct tls_host *h, struct stat st[TLS_FILES], struct err *e)
{
	for (unsigned i = 0; i < TLS_FILES; i++) {
		if (h->path[i] == NULL)
			continue;
		if (stat(h->path[i], &st[i]) != 0)
			return err_sys(e, errno,
				"TLS needs %s. `godwit keys` makes keys; `insecure` on both hosts "
				"does without",
				h->path[i]);
	}
	if (st[TLS_KEY].st_mode & (S_IROTH | S_IWOTH))
		return err_set(e, EACCES, "%s: everybody may read this key; chmod o= it",
			h->path[TLS_KEY]);
	return 0;
}

static bool same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int load_crl(const struct tls_host *h, SSL_CTX *ctx, struct err *e)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());

	if (h->path[TLS_CRL] == NULL)
		return 0;
	if (lookup == NULL || X509_load_crl_file(lookup, h->path[TLS_CRL], X509_FILETYPE_PEM) < 1)
		return bad_file(h, TLS_CRL, "is no list of revoked certificates", e);
	X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	return 0;
}

static int load(const struct tls_host *h, SSL_CTX *ctx, struct err *e)
{
	SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
	SSL_CTX_set_ciphersuites(ctx, CIPHERS);
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	SSL_CTX_set_mode(ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_ENABLE_PARTIAL_WRITE);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, tls_verify);
	if (SSL_CTX_use_certificate_chain_file(ctx, h->path[TLS_CERT]) != 1)
		return bad_file(h, TLS_CERT, "holds no certificate that can be used", e);
	if (SSL_CTX_use_PrivateKey_file(ctx, h->path[TLS_KEY], SSL_FILETYPE_PEM) != 1)
		return bad_file(h, TLS_KEY, "holds no key for host.pem", e);
	if (SSL_CTX_load_verify_locations(ctx, h->path[TLS_AUTHORITY], NULL) != 1)
		return bad_file(h, TLS_AUTHORITY, "holds no certificate of an authority", e);
	return load_crl(h, ctx, e);
}

/* A certificate of our own that has expired would be refused everywhere: better said here. */
static int check_own(struct tls_host *h, SSL_CTX *ctx, struct err *e)
{
	X509 *x = SSL_CTX_get0_certificate(ctx);

	tls_names(x, h->names, sizeof(h->names), NULL, NULL);
	if (X509_cmp_current_time(X509_get0_notAfter(x)) <= 0)
		return err_set(e, EINVAL, "%s has expired: make a new one (`godwit keys` does)",
			h->path[TLS_CERT]);
	if (h->names[0] == '\0')
		return err_set(e, EINVAL, "%s bears no name (subject alternative name)",
			h->path[TLS_CERT]);
	return 0;
}

int tls_host_fresh(struct tls_host *h, struct err *e)
{
	struct stat now[TLS_FILES] = {0};
	bool changed = h->ctx == NULL;
	SSL_CTX *ctx;
	int rc = look_at(h, now, e);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < TLS_FILES; i++)
		changed |= !same(&now[i], &h->seen[i]);
	if (!changed)
		return 0;
	ctx = SSL_CTX_new(TLS_method());
	if (ctx == NULL)
		return err_set(e, ENOMEM, "TLS: no memory");
	rc = load(h, ctx, e);
	if (rc == 0)
		rc = check_own(h, ctx, e);
	if (rc < 0) {
		SSL_CTX_free(ctx);
		return rc;
	}
	SSL_CTX_free(h->ctx); /* connections hold on to theirs */
	h->ctx = ctx;
	memcpy(h->seen, now, sizeof(now));
	return 0;
}

int tls_host_new(struct tls_host **out, const struct tls_config *c, struct err *e)
{
	struct tls_host *h = calloc(1, sizeof(*h));
	struct err why;
	int rc = 0;

	if (h == NULL)
		return err_set(e, ENOMEM, "TLS: no memory");
	for (unsigned i = 0; rc == 0 && i < TLS_CRL; i++)
		if (asprintf(&h->path[i], "%s/%s", c->dir, file_name[i]) < 0)
			rc = err_set(e, ENOMEM, "TLS: no memory");
	if (rc == 0 && c->crl != NULL)
		h->path[TLS_CRL] = strdup(c->crl);
	h->allow = strdup(c->allow);
	if (rc == 0 && (h->allow == NULL || (c->crl != NULL && h->path[TLS_CRL] == NULL)))
		rc = err_set(e, ENOMEM, "TLS: no memory");
	if (rc == 0 && identity_check_list(h->allow, &why) < 0)
		rc = err_set(e, EINVAL, "allow: %s", why.text);
	if (rc == 0)
		rc = tls_host_fresh(h, e);
	if (rc < 0) {
		tls_host_free(h);
		return rc;
	}
	*out = h;
	return 0;
}

void tls_host_free(struct tls_host *h)
{
	if (h == NULL)
		return;
	SSL_CTX_free(h->ctx);
	for (unsigned i = 0; i < TLS_FILES; i++)
		free(h->path[i]);
	free(h->allow);
	free(h);
}

const char *tls_host_names(const struct tls_host *h)
{
	return h->names;
}
