// SPDX-License-Identifier: BSD-3-Clause
// godwit keys: which files are made, and when. Run by godwit.
//
// Invariants: a private key is made once, readable by its owner only, and never overwritten;
// certificates, requests and the list of revoked ones are replaced whole.

#include "keys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "identity.h"
#include "keys_impl.h"

#define AUTHORITY_DAYS 3650u

struct authority {
	EVP_PKEY *key;
	X509 *cert;
	X509_CRL *list;
};

static int failed(const char *path, const char *what, struct err *e)
{
	int errnum = errno;

	ERR_clear_error();
	return errnum != 0 ? err_sys(e, errnum, "%s: cannot %s", path, what)
			   : err_set(e, EINVAL, "%s: cannot %s", path, what);
}

static bool join(char out[PATH_MAX], const char *dir, const char *name)
{
	return snprintf(out, PATH_MAX, "%s/%s", dir, name) < PATH_MAX;
}

/* For reading; NULL with errno ENOENT: there is none. */
static FILE *open_to_read(const char *dir, const char *name)
{
	char path[PATH_MAX];

	errno = ENAMETOOLONG;
	return join(path, dir, name) ? fopen(path, "re") : NULL;
}

/* For writing a new file beside the old one; commit() puts it in its place. */
static FILE *open_to_write(const char *dir, const char *name, mode_t mode, char path[PATH_MAX])
{
	char temporary[NAME_MAX];
	int fd;
	FILE *f;

	snprintf(temporary, sizeof(temporary), ".%s.new", name);
	errno = ENAMETOOLONG;
	if (!join(path, dir, temporary))
		return NULL;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	f = fd < 0 ? NULL : fdopen(fd, "w");
	if (f == NULL)
		close_fd(&fd);
	return f;
}

static int commit(
	FILE *f, bool ok, const char *from, const char *dir, const char *name, struct err *e)
{
	char to[PATH_MAX];

	ok &= fflush(f) == 0 && fsync(fileno(f)) == 0;
	ok &= fclose(f) == 0;
	if (ok && join(to, dir, name) && rename(from, to) == 0) {
		printf("%s\n", to);
		return 0;
	}
	failed(from, "write it", e);
	unlink(from);
	return -e->errnum;
}

/* The key that is there, or a new one. */
static int have_key(EVP_PKEY **key, const char *dir, const char *name, struct err *e)
{
	char path[PATH_MAX];
	FILE *f = open_to_read(dir, name);

	if (f != NULL) {
		errno = 0;
		*key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
		fclose(f);
		return *key != NULL ? 0 : failed(name, "read a key from it", e);
	}
	if (errno != ENOENT)
		return failed(name, "read it", e);
	*key = keys_x509_key();
	f = open_to_write(dir, name, 0600, path);
	if (*key == NULL || f == NULL) {
		if (f != NULL)
			fclose(f);
		return failed(name, "make a key", e);
	}
	return commit(f, PEM_write_PKCS8PrivateKey(f, *key, NULL, NULL, 0, NULL, NULL) == 1, path,
		dir, name, e);
}

#define WRITER(fn, type, pem)                                                                      \
	static int fn(type *x, const char *dir, const char *name, struct err *e)                   \
	{                                                                                          \
		char path[PATH_MAX];                                                               \
		FILE *f = x != NULL ? open_to_write(dir, name, 0644, path) : NULL;                 \
                                                                                                   \
		return f == NULL ? failed(name, "make it", e)                                      \
				 : commit(f, pem(f, x) == 1, path, dir, name, e);                  \
	}
WRITER(write_cert, X509, PEM_write_X509)
WRITER(write_request, X509_REQ, PEM_write_X509_REQ)
WRITER(write_list, X509_CRL, PEM_write_X509_CRL)
#undef WRITER

static X509 *read_cert(const char *dir, const char *name)
{
	FILE *f = open_to_read(dir, name);
	X509 *x = f != NULL ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;

	if (f != NULL)
		fclose(f);
	return x;
}

static int make_dir(const char *path, struct err *e)
{
	return mkdir(path, 0700) == 0 || errno == EEXIST
		       ? 0
		       : err_sys(e, errno, "cannot make the folder %s", path);
}

static int have_authority(struct authority *a, const struct keys_options *o, struct err *e)
{
	int rc = make_dir(o->dir, e);
	FILE *f;

	if (rc == 0)
		rc = have_key(&a->key, o->dir, "authority.key", e);
	if (rc < 0)
		return rc;
	a->cert = read_cert(o->dir, "authority.pem");
	if (a->cert == NULL) {
		a->cert = keys_x509_authority(a->key, AUTHORITY_DAYS);
		rc = write_cert(a->cert, o->dir, "authority.pem", e);
	} else if (X509_check_private_key(a->cert, a->key) != 1) {
		rc = err_set(
			e, EINVAL, "%s: authority.key is not the key of authority.pem", o->dir);
	}
	f = open_to_read(o->dir, "revoked.pem");
	if (f != NULL) {
		a->list = PEM_read_X509_CRL(f, NULL, NULL, NULL);
		fclose(f);
		if (rc == 0 && a->list == NULL)
			rc = err_set(e, EINVAL, "%s: revoked.pem is no list", o->dir);
	}
	return rc;
}

/* Made anew each time: it has an end. */
static int make_list(
	struct authority *a, const struct keys_options *o, X509 *revoked, struct err *e)
{
	X509_CRL *list = keys_x509_list(a->list, revoked, a->cert, a->key, o->days);
	int rc = write_list(list, o->dir, "revoked.pem", e);

	X509_CRL_free(list);
	return rc;
}

static int make_host(
	struct authority *a, const struct keys_options *o, const char *names, struct err *e)
{
	char dir[PATH_MAX], first[IDENTITY_BYTES];
	EVP_PKEY *key = NULL;
	X509_REQ *request = NULL;
	X509 *cert = NULL;
	int rc;

	snprintf(first, sizeof(first), "%.*s", (int)strcspn(names, ","), names);
	if (!join(dir, o->dir, first))
		return err_set(e, ENAMETOOLONG, "%s/%s is too long", o->dir, first);
	rc = make_dir(dir, e);
	if (rc == 0)
		rc = have_key(&key, dir, "host.key", e);
	if (rc == 0) {
		request = keys_x509_request(key, names);
		rc = write_request(request, dir, "host.csr", e);
	}
	if (rc == 0) {
		cert = keys_x509_host(key, names, a->cert, a->key, o->days);
		rc = write_cert(cert, dir, "host.pem", e);
	}
	if (rc == 0)
		rc = write_cert(a->cert, dir, "authority.pem", e);
	X509_free(cert);
	X509_REQ_free(request);
	EVP_PKEY_free(key);
	return rc;
}

static int revoke_host(struct authority *a, const struct keys_options *o, struct err *e)
{
	char name[IDENTITY_BYTES + 16];
	X509 *cert;
	int rc;

	if (!identity_is_name(o->revoke, false))
		return err_set(e, EINVAL, "'%.60s' is no name of a host", o->revoke);
	snprintf(name, sizeof(name), "%s/host.pem", o->revoke);
	cert = read_cert(o->dir, name);
	if (cert == NULL)
		return err_set(e, ENOENT, "there is no certificate %s/%s to revoke", o->dir, name);
	rc = make_list(a, o, cert, e);
	X509_free(cert);
	if (rc == 0)
		printf("now give this list to every host\n");
	return rc;
}

static int check_names(const struct keys_options *o, struct err *e)
{
	for (int i = 0; i < o->nnames; i++) {
		char copy[512], *rest = copy, *name;

		if ((size_t)snprintf(copy, sizeof(copy), "%s", o->names[i]) >= sizeof(copy))
			return err_set(e, EINVAL, "the names of one host are too long");
		while ((name = strsep(&rest, ",")) != NULL)
			if (!identity_is_name(name, false))
				return err_set(e, EINVAL,
					"'%.60s' is no name of a host: write "
					"NAME[,NAME]..., by DNS or address",
					name);
	}
	if (o->nnames == 0 && o->revoke == NULL)
		return err_set(e, EINVAL,
			"name the hosts: `godwit keys alpha.example,192.0.2.7 "
			"beta.example`");
	return 0;
}

int keys_make(const struct keys_options *o, struct err *e)
{
	struct authority a = {0};
	int rc = check_names(o, e);

	if (rc == 0)
		rc = have_authority(&a, o, e);
	for (int i = 0; rc == 0 && i < o->nnames; i++)
		rc = make_host(&a, o, o->names[i], e);
	if (rc == 0)
		rc = o->revoke != NULL ? revoke_host(&a, o, e) : make_list(&a, o, NULL, e);
	X509_CRL_free(a.list);
	X509_free(a.cert);
	EVP_PKEY_free(a.key);
	return rc;
}
