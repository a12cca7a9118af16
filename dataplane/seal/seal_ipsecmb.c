// SPDX-License-Identifier: BSD-3-Clause
// AES-256-GCM by libipsec-mb, which has code for VAES and AVX-512, AVX2 and SSE. The direct GCM
// functions are used, not the job queue: one packet keeps the core's units busy by itself. Opened
// and closed by control threads; the rest is run by the one polling core that owns the key.
//
// Invariant: the manager, which only says which code this CPU runs, is made once and then read.

#include "seal.h"

#include "mem.h"

#include <errno.h>
#include <intel-ipsec-mb.h>
#include <pthread.h>
#include <string.h>

// Of memory that no cache has, the next half page is fetched while this one is sealed: the library
// asks for a line when it needs it, and the core's own prefetcher stops at each page. A sixth less
// on Zen 5. On Zen 4 a page in runs of 256 KiB takes 1470 cycles so, 1600 without; but in packets
// of 8 KiB 1330 so, 1270 without.
#define FETCH_BYTES ((size_t)2048)
#define LINE_BYTES  64u
#define RUN_BYTES   ((size_t)16384) // shorter ones are not fetched ahead there

struct seal_ipsecmb {
	struct seal_cipher cipher;
	struct gcm_context_data ctx; // of the packet under way
	struct gcm_key_data key __attribute__((aligned(64)));
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static IMB_MGR *manager; // NULL: this CPU has not what the library needs
static size_t least_run; // what is shorter is not fetched ahead

static size_t find_least_run(void)
{
#if defined(__x86_64__)
	return __builtin_cpu_is("amdfam19h") ? RUN_BYTES : 0;
#else
	return 0;
#endif
}

static void find_code(void)
{
	IMB_MGR *m = alloc_mb_mgr(0);

	if (m == NULL)
		return;
	init_mb_mgr_auto(m, NULL);
	if (m->gcm256_enc == NULL || imb_get_errno(m) != 0) {
		free_mb_mgr(m);
		return;
	}
	least_run = find_least_run();
	manager = m;
}

static int ipsecmb_open(struct seal_cipher **c, int node, struct err *e)
{
	struct seal_ipsecmb *k;

	pthread_once(&once, find_code);
	if (manager == NULL)
		return err_set(e, ENOTSUP, "libipsec-mb has no code for this CPU");
	k = mem_new(sizeof(*k), node);
	if (k == NULL)
		return err_set(e, ENOMEM, "no memory for the key of a flow");
	k->cipher.ops = &seal_ipsecmb;
	*c = &k->cipher;
	return 0;
}

static void ipsecmb_close(struct seal_cipher *c)
{
	struct seal_ipsecmb *k = (struct seal_ipsecmb *)c;

	if (k != NULL)
		explicit_bzero(k, sizeof(*k));
	mem_free(k, sizeof(*k));
}

static void ipsecmb_set_key(struct seal_cipher *c, const uint8_t key[SEAL_KEY_BYTES])
{
	struct seal_ipsecmb *k = (struct seal_ipsecmb *)c;

	IMB_AES256_GCM_PRE(manager, key, &k->key);
}

// What is beyond the end is often sealed next, and where it is nothing, fetching it is no fault.
static void seal_far(struct seal_ipsecmb *k, uint8_t *out, const uint8_t *in, size_t bytes)
{
	for (size_t at = 0, n; at < bytes; at += n) {
		n = bytes - at < FETCH_BYTES ? bytes - at : FETCH_BYTES;
		for (size_t i = 0; i < n; i += LINE_BYTES)
			__builtin_prefetch(in + at + FETCH_BYTES + i);
		IMB_AES256_GCM_ENC_UPDATE(manager, &k->key, &k->ctx, out + at, in + at, n);
	}
}

static bool ipsecmb_seal(
	struct seal_cipher *c, const uint8_t nonce[SEAL_NONCE_BYTES], const struct seal_text *t)
{
	struct seal_ipsecmb *k = (struct seal_ipsecmb *)c;
	uint8_t *out = t->out;

	if (t->nseg == 1 && !t->far) {
		IMB_AES256_GCM_ENC(manager, &k->key, &k->ctx, out, t->seg->iov_base,
			t->seg->iov_len, nonce, t->aad, t->aad_bytes, t->tag, SEAL_TAG_BYTES);
		return true;
	}
	IMB_AES256_GCM_INIT(manager, &k->key, &k->ctx, nonce, t->aad, t->aad_bytes);
	for (unsigned i = 0; i < t->nseg; i++) {
		if (t->far && t->seg[i].iov_len >= least_run)
			seal_far(k, out, t->seg[i].iov_base, t->seg[i].iov_len);
		else
			IMB_AES256_GCM_ENC_UPDATE(manager, &k->key, &k->ctx, out,
				t->seg[i].iov_base, t->seg[i].iov_len);
		out += t->seg[i].iov_len;
	}
	IMB_AES256_GCM_ENC_FINALIZE(manager, &k->key, &k->ctx, t->tag, SEAL_TAG_BYTES);
	return true;
}

// Takes the same time wherever they differ.
static bool same_tag(const uint8_t *a, const uint8_t *b)
{
	uint64_t x[2], y[2];

	memcpy(x, a, sizeof(x));
	memcpy(y, b, sizeof(y));
	return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
}

static bool ipsecmb_unseal(
	struct seal_cipher *c, const uint8_t nonce[SEAL_NONCE_BYTES], const struct seal_text *t)
{
	struct seal_ipsecmb *k = (struct seal_ipsecmb *)c;
	uint8_t tag[SEAL_TAG_BYTES], *out = t->out;

	IMB_AES256_GCM_INIT(manager, &k->key, &k->ctx, nonce, t->aad, t->aad_bytes);
	for (unsigned i = 0; i < t->nseg; i++) {
		IMB_AES256_GCM_DEC_UPDATE(
			manager, &k->key, &k->ctx, out, t->seg[i].iov_base, t->seg[i].iov_len);
		out += t->seg[i].iov_len;
	}
	IMB_AES256_GCM_DEC_FINALIZE(manager, &k->key, &k->ctx, tag, SEAL_TAG_BYTES);
	return same_tag(tag, t->tag);
}

const struct seal_ops seal_ipsecmb = {
	.name = "aes-256-gcm",
	.by = "libipsec-mb",
	.open = ipsecmb_open,
	.set_key = ipsecmb_set_key,
	.seal = ipsecmb_seal,
	.unseal = ipsecmb_unseal,
	.close = ipsecmb_close,
};
