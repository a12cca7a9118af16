// SPDX-License-Identifier: BSD-3-Clause
// What stands in keys' files: ECDSA P-256 keys, certificates, requests and lists of revoked ones
// (RFC 5280, RFC 2986). Run by godwit keys.

#include "keys_impl.h"

#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "identity.h"

#define NAMES_BYTES  1024
#define SERIAL_BYTES 16
#define EARLIER_S    3600 /* good from then on: clocks differ */
#define DAY_S        86400L

EVP_PKEY *keys_x509_key(void)
{
	return EVP_EC_gen("P-256");
}

/* "a.example,192.0.2.7" as OpenSSL's text of subject alternative names. The caller has checked
 * that these are names, so nothing else can stand in the text. */
static bool san_text(const char *names, char out[NAMES_BYTES])
{
	char copy[NAMES_BYTES / 2], *rest = copy, *name;
	size_t at = 0;

	if ((size_t)snprintf(copy, sizeof(copy), "%s", names) >= sizeof(copy))
		return false;
	while ((name = strsep(&rest, ",")) != NULL) {
		int n = snprintf(out + at, NAMES_BYTES - at, "%s%s:%s", at > 0 ? "," : "",
			identity_is_address(name) ? "IP" : "DNS", name);
		if (n < 0 || (size_t)n >= NAMES_BYTES - at)
			return false;
		at += (size_t)n;
	}
	return at > 0;
}

static bool name_of(X509_NAME *to, const char *names)
{
	int len = (int)strcspn(names, ",");

	return X509_NAME_add_entry_by_txt(to, "CN", MBSTRING_ASC, (const unsigned char *)names,
		       len > 64 ? 64 : len, -1, 0) == 1;
}

static bool extend(X509 *x, X509 *by, int nid, const char *text)
{
	X509_EXTENSION *ext;
	X509V3_CTX ctx;
	bool ok;

	X509V3_set_ctx(&ctx, by, x, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, text);
	ok = ext != NULL && X509_add_ext(x, ext, -1) == 1;
	X509_EXTENSION_free(ext);
	return ok;
}

static bool number(X509 *x)
{
	unsigned char bytes[SERIAL_BYTES];
	BIGNUM *n;
	bool ok;

	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return false;
	bytes[0] &= 0x7f;
	n = BN_bin2bn(bytes, sizeof(bytes), NULL);
	ok = n != NULL && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x)) != NULL;
	BN_free(n);
	return ok;
}

static X509 *begin(EVP_PKEY *key, unsigned days)
{
	X509 *x = X509_new();

	if (x != NULL && X509_set_version(x, X509_VERSION_3) == 1 && number(x) &&
		X509_gmtime_adj(X509_getm_notBefore(x), -EARLIER_S) != NULL &&
		X509_gmtime_adj(X509_getm_notAfter(x), DAY_S * (long)days) != NULL &&
		X509_set_pubkey(x, key) == 1)
		return x;
	X509_free(x);
	return NULL;
}

static X509 *end(X509 *x, bool ok, EVP_PKEY *by_key)
{
	if (ok && X509_sign(x, by_key, EVP_sha256()) > 0)
		return x;
	X509_free(x);
	return NULL;
}

/* Two authorities never have the same: certificates are looked up by it. */
static bool authority_name(char name[64])
{
	unsigned char r[4];

	if (RAND_bytes(r, sizeof(r)) != 1)
		return false;
	snprintf(name, 64, "Godwit test authority %02x%02x%02x%02x", r[0], r[1], r[2], r[3]);
	return true;
}

X509 *keys_x509_authority(EVP_PKEY *key, unsigned days)
{
	X509 *x = begin(key, days);
	char name[64];
	bool ok = x != NULL && authority_name(name) && name_of(X509_get_subject_name(x), name) &&
		  X509_set_issuer_name(x, X509_get_subject_name(x)) == 1 &&
		  extend(x, x, NID_basic_constraints, "critical,CA:TRUE") &&
		  extend(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") &&
		  extend(x, x, NID_subject_key_identifier, "hash");

	return end(x, ok, key);
}

X509 *keys_x509_host(EVP_PKEY *key, const char *names, X509 *by, EVP_PKEY *by_key, unsigned days)
{
	X509 *x = begin(key, days);
	char san[NAMES_BYTES];
	bool ok = x != NULL && san_text(names, san) && name_of(X509_get_subject_name(x), names) &&
		  X509_set_issuer_name(x, X509_get_subject_name(by)) == 1 &&
		  extend(x, by, NID_basic_constraints, "critical,CA:FALSE") &&
		  extend(x, by, NID_key_usage, "critical,digitalSignature") &&
		  extend(x, by, NID_ext_key_usage, "serverAuth,clientAuth") &&
		  extend(x, by, NID_subject_key_identifier, "hash") &&
		  extend(x, by, NID_authority_key_identifier, "keyid") &&
		  extend(x, by, NID_subject_alt_name, san);

	return end(x, ok, by_key);
}

X509_REQ *keys_x509_request(EVP_PKEY *key, const char *names)
{
	X509_REQ *r = X509_REQ_new();
	STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
	X509_EXTENSION *ext = NULL;
	char san[NAMES_BYTES];
	bool ok = r != NULL && list != NULL && san_text(names, san);

	if (ok)
		ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san);
	ok = ext != NULL && sk_X509_EXTENSION_push(list, ext) > 0 &&
	     X509_REQ_add_extensions(r, list) == 1 &&
	     name_of(X509_REQ_get_subject_name(r), names) && X509_REQ_set_pubkey(r, key) == 1 &&
	     X509_REQ_sign(r, key, EVP_sha256()) > 0;
	sk_X509_EXTENSION_free(list);
	X509_EXTENSION_free(ext);
	if (ok)
		return r;
	X509_REQ_free(r);
	return NULL;
}

static bool revoke(X509_CRL *list, const ASN1_INTEGER *serial, const ASN1_TIME *when)
{
	X509_REVOKED *r = X509_REVOKED_new();

	if (r != NULL && X509_REVOKED_set_serialNumber(r, (ASN1_INTEGER *)serial) == 1 &&
		X509_REVOKED_set_revocationDate(r, (ASN1_TIME *)when) == 1 &&
		X509_CRL_add0_revoked(list, r) == 1)
		return true;
	X509_REVOKED_free(r);
	return false;
}

X509_CRL *keys_x509_list(X509_CRL *old, X509 *revoked, X509 *by, EVP_PKEY *by_key, unsigned days)
{
	STACK_OF(X509_REVOKED) *before = old != NULL ? X509_CRL_get_REVOKED(old) : NULL;
	ASN1_TIME *now = X509_gmtime_adj(NULL, -EARLIER_S);
	ASN1_TIME *until = X509_gmtime_adj(NULL, DAY_S * (long)days);
	X509_CRL *list = X509_CRL_new();
	bool ok = list != NULL && now != NULL && until != NULL &&
		  X509_CRL_set_version(list, X509_CRL_VERSION_2) == 1 &&
		  X509_CRL_set_issuer_name(list, X509_get_subject_name(by)) == 1 &&
		  X509_CRL_set1_lastUpdate(list, now) == 1 &&
		  X509_CRL_set1_nextUpdate(list, until) == 1;

	for (int i = 0; ok && i < sk_X509_REVOKED_num(before); i++) {
		const X509_REVOKED *r = sk_X509_REVOKED_value(before, i);

		ok = revoke(list, X509_REVOKED_get0_serialNumber(r),
			X509_REVOKED_get0_revocationDate(r));
	}
	if (ok && revoked != NULL)
		ok = revoke(list, X509_get0_serialNumber(revoked), now);
	ASN1_TIME_free(now);
	ASN1_TIME_free(until);
	if (ok && X509_CRL_sort(list) == 1 && X509_CRL_sign(list, by_key, EVP_sha256()) > 0)
		return list;
	X509_CRL_free(list);
	return NULL;
}
