// SPDX-License-Identifier: BSD-3-Clause
// AES-256-GCM by OpenSSL, where libipsec-mb does not exist, and to test that row against. Opened
// and closed by control threads; the rest is run by the one polling core that owns the key.
//
// Invariant: the cipher is fetched and its context made at open; OpenSSL then allocates nothing for
// a new key, nonce or packet (a test counts).

#include "seal.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>

struct seal_openssl {
	struct seal_cipher cipher;
	EVP_CIPHER_CTX *ctx;
};

static void openssl_close(struct seal_cipher *c)
{
	struct seal_openssl *k = (struct seal_openssl *)c;

	if (k != NULL)
		EVP_CIPHER_CTX_free(k->ctx); // wipes the key
	free(k);
}

static int openssl_open(struct seal_cipher **c, int node, struct err *e)
{
	struct seal_openssl *k = calloc(1, sizeof(*k));
	EVP_CIPHER *gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);

	(void)node;
	if (k != NULL)
		k->ctx = EVP_CIPHER_CTX_new();
	if (k == NULL || k->ctx == NULL || gcm == NULL ||
		EVP_CipherInit_ex2(k->ctx, gcm, NULL, NULL, 1, NULL) != 1) {
		EVP_CIPHER_free(gcm);
		openssl_close(&k->cipher);
		return err_set(e, ENOTSUP, "this host's OpenSSL has no AES-256-GCM");
	}
	EVP_CIPHER_free(gcm); // the context holds it
	k->cipher.ops = &seal_openssl;
	*c = &k->cipher;
	return 0;
}

static void openssl_set_key(struct seal_cipher *c, const uint8_t key[SEAL_KEY_BYTES])
{
	struct seal_openssl *k = (struct seal_openssl *)c;

	EVP_CipherInit_ex2(k->ctx, NULL, key, NULL, -1, NULL);
}

// All but the tag.
static bool run(
	struct seal_openssl *k, const uint8_t *nonce, const struct seal_text *t, int sealing)
{
	uint8_t *out = t->out;
	int n;

	if (EVP_CipherInit_ex2(k->ctx, NULL, NULL, nonce, sealing, NULL) != 1)
		return false;
	if (t->aad_bytes > 0 && EVP_CipherUpdate(k->ctx, NULL, &n, t->aad, (int)t->aad_bytes) != 1)
		return false;
	for (unsigned i = 0; i < t->nseg; i++) {
		if (EVP_CipherUpdate(k->ctx, out, &n, t->seg[i].iov_base, (int)t->seg[i].iov_len) !=
			1)
			return false;
		out += t->seg[i].iov_len;
	}
	return true;
}

static bool openssl_seal(
	struct seal_cipher *c, const uint8_t nonce[SEAL_NONCE_BYTES], const struct seal_text *t)
{
	struct seal_openssl *k = (struct seal_openssl *)c;
	uint8_t none[SEAL_TAG_BYTES];
	int n;

	return run(k, nonce, t, 1) && EVP_CipherFinal_ex(k->ctx, none, &n) == 1 &&
	       EVP_CIPHER_CTX_ctrl(k->ctx, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG_BYTES, t->tag) == 1;
}

static bool openssl_unseal(
	struct seal_cipher *c, const uint8_t nonce[SEAL_NONCE_BYTES], const struct seal_text *t)
{
	struct seal_openssl *k = (struct seal_openssl *)c;
	uint8_t none[SEAL_TAG_BYTES];
	int n;

	return run(k, nonce, t, 0) &&
	       EVP_CIPHER_CTX_ctrl(k->ctx, EVP_CTRL_AEAD_SET_TAG, SEAL_TAG_BYTES, t->tag) == 1 &&
	       EVP_CipherFinal_ex(k->ctx, none, &n) == 1;
}

const struct seal_ops seal_openssl = {
	.name = "aes-256-gcm",
	.by = "OpenSSL",
	.open = openssl_open,
	.set_key = openssl_set_key,
	.seal = openssl_seal,
	.unseal = openssl_unseal,
	.close = openssl_close,
};
