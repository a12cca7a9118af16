/* SPDX-License-Identifier: BSD-3-Clause */
/* The seal port: authenticated encryption of what a flow sends. A seal is one key of one direction
 * of one flow: it seals, or it opens. AES-256-GCM (NIST SP 800-38D) with a nonce of 96 bits made of
 * the packet number, as RFC 9001 section 5.3 has it: the number, big-endian, XORed into the last 8
 * bytes of the secret's iv. A packet number is that of a transmission, never of a frame: it is
 * never used twice with one secret, and a text that is sent again is a new packet.
 *
 * Keys change by themselves: packet number N is sealed with the key of epoch N >> SEAL_EPOCH_SHIFT.
 * With packets of at most a chunk, that is 2^34 blocks and 2^20 packets a key, far from the 2^32 of
 * SP 800-38D section 8.3, and where RFC 8446 section 5.5 ends. The key and iv of the next epoch are
 * the key stream that this one makes for packet number 2^64 - 1, which no packet has.
 *
 * Opening refuses numbers that were opened before, and those SEAL_WINDOW or more below the newest.
 *
 * seal_new() and seal_free() are for control threads; all else is the one polling core's that owns
 * the seal: no system call, lock or allocation. */
#ifndef GODWIT_DATAPLANE_SEAL_H
#define GODWIT_DATAPLANE_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "err.h"

#define SEAL_KEY_BYTES   32u
#define SEAL_NONCE_BYTES 12u
#define SEAL_TAG_BYTES   16u
#define SEAL_EPOCH_SHIFT 20
#define SEAL_WINDOW      4096u

/* What one direction of a flow begins with; comes from the TLS exporter. */
struct seal_secret {
	uint8_t key[SEAL_KEY_BYTES];
	uint8_t iv[SEAL_NONCE_BYTES];
};

enum seal_status { SEAL_GOOD, SEAL_FORGED, SEAL_REPLAYED };

/* One packet. seg: the plain text to seal, or the sealed text to open; out: where as many bytes go.
 * out may be the only segment itself; else they don't overlap. Sealing reads each byte of seg once,
 * so memory of a running guest may change meanwhile: what was read is what is sealed. */
struct seal_text {
	uint64_t number;
	const uint8_t *aad; /* authenticated, not encrypted: the header */
	uint32_t aad_bytes;
	bool far; /* to seal: seg is memory that no cache has, to be fetched ahead */
	unsigned nseg;
	const struct iovec *seg;
	uint8_t *out;
	uint8_t *tag;            /* SEAL_TAG_BYTES: written, or compared in constant time */
	enum seal_status status; /* of opening */
};

/* A row: the cipher alone, with a key and a nonce that it is given. */
struct seal_cipher;
struct seal_ops {
	const char *name; /* on the wire: "aes-256-gcm" */
	const char *by;   /* whose code it is, for reports */
	/* Memory for one key; -ENOTSUP where this CPU can't run it. 0 or -errno. */
	int (*open)(struct seal_cipher **c, int node, struct err *e);
	void (*set_key)(struct seal_cipher *c, const uint8_t key[SEAL_KEY_BYTES]);
	/* false: the library failed, nothing may be sent. */
	bool (*seal)(struct seal_cipher *c, const uint8_t nonce[SEAL_NONCE_BYTES],
		const struct seal_text *t);
	/* false: the tag does not match; out holds nothing that may be used. */
	bool (*unseal)(struct seal_cipher *c, const uint8_t nonce[SEAL_NONCE_BYTES],
		const struct seal_text *t);
	void (*close)(struct seal_cipher *c); /* NULL is allowed; wipes the key */
};

struct seal_cipher {
	const struct seal_ops *ops;
};

/* The rows, best first, ended by NULL. */
extern const struct seal_ops *const seal_table[];
/* The first row of that name that runs here; NULL: none. */
const struct seal_ops *seal_best(const char *name);

struct seal;

/* node: NUMA node for its memory or -1. One seal either seals or opens. 0 or -errno. */
int seal_new(struct seal **s, const struct seal_ops *ops, const struct seal_secret *secret,
	int node, struct err *e);
void seal_free(struct seal *s); /* NULL is allowed; wipes the keys */
const struct seal_ops *seal_row(const struct seal *s);

/* Seals up to n packets, in order. Returns how many; fewer means that a number is not above all
 * before it, or more than an epoch above, or that the library failed: the flow is over then. */
unsigned seal_seal(struct seal *s, struct seal_text *t, unsigned n);
/* Opens n packets and sets their status. Returns how many are good; what is in out of the others
 * must not be used. */
unsigned seal_open(struct seal *s, struct seal_text *t, unsigned n);

/* How many bytes a burst of segments has. */
static inline size_t seal_bytes(const struct seal_text *t)
{
	size_t bytes = 0;

	for (unsigned i = 0; i < t->nseg; i++)
		bytes += t->seg[i].iov_len;
	return bytes;
}

extern const struct seal_ops seal_ipsecmb;
extern const struct seal_ops seal_openssl;

#endif
