/* SPDX-License-Identifier: BSD-3-Clause */
/* What keys.c (which files are made) and keys_x509.c (what stands in them) share. */
#ifndef GODWIT_CONTROL_KEYS_IMPL_H
#define GODWIT_CONTROL_KEYS_IMPL_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "err.h"

/* Each: NULL where OpenSSL failed. names: as in keys.h. */
EVP_PKEY *keys_x509_key(void);
X509 *keys_x509_authority(EVP_PKEY *key, unsigned days);
X509 *keys_x509_host(EVP_PKEY *key, const char *names, X509 *by, EVP_PKEY *by_key, unsigned days);
X509_REQ *keys_x509_request(EVP_PKEY *key, const char *names);
/* A new list: those of old, which may be NULL, and revoked, which may be NULL. */
X509_CRL *keys_x509_list(X509_CRL *old, X509 *revoked, X509 *by, EVP_PKEY *by_key, unsigned days);

#endif
