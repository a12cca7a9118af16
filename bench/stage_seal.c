// SPDX-License-Identifier: BSD-3-Clause
// Sealing and opening alone: the image's pages, packet by packet, into a buffer that stays in the
// cache, as the links use it. By the row that this host takes, and by OpenSSL's.

#include "stage.h"

#include <errno.h>
#include <stdlib.h>

#include "mem.h"
#include "seal.h"

#define KIB_OPEN    (1 << 16) // flags beside the KiB of a packet
#define KIB_OPENSSL (1 << 17)
#define KIB_WARM    (1 << 18) // the same packet again
#define KIB_MASK    (KIB_OPEN - 1)
#define AAD_BYTES   64u

struct sealing {
	struct seal *seal;
	struct seal_secret secret;
	uint64_t number;
	uint8_t aad[AAD_BYTES];
	uint8_t tag[SEAL_TAG_BYTES];
	uint8_t out[CHUNK_BYTES] __attribute__((aligned(64)));
};

static const struct seal_ops *row(int arg)
{
	return arg & KIB_OPENSSL ? &seal_openssl : seal_best("aes-256-gcm");
}

static void seal_stage_close(void *state)
{
	struct sealing *s = state;

	seal_free(s->seal);
	mem_free(s, sizeof(*s));
}

static int seal_stage_open(struct bench *b, int arg, void **state)
{
	struct sealing *s = mem_new(sizeof(*s), -1);

	(void)b;
	if (s == NULL || seal_new(&s->seal, row(arg), &s->secret, -1, NULL) < 0) {
		mem_free(s, sizeof(*s));
		return -ENOTSUP;
	}
	*state = s;
	return 0;
}

// Opening a packet that is none takes as long as opening one: the tag is compared last.
static uint64_t seal_stage_run(struct bench *b, int arg, void *state)
{
	struct sealing *s = state;
	uint64_t bytes = (uint64_t)(arg & KIB_MASK) << 10, all = b->pages * PAGE_BYTES;

	for (uint64_t at = 0; at + bytes <= all; at += bytes) {
		struct iovec seg = {b->image + (arg & KIB_WARM ? 0 : at), bytes};
		struct seal_text t = {.number = s->number++,
			.aad = s->aad,
			.aad_bytes = AAD_BYTES,
			.far = (arg & KIB_WARM) == 0,
			.nseg = 1,
			.seg = &seg,
			.out = s->out,
			.tag = s->tag};

		if (arg & KIB_OPEN) {
			t.number = 1;
			if (seal_open(s->seal, &t, 1) != 0)
				abort();
		} else if (seal_seal(s->seal, &t, 1) != 1) {
			abort();
		}
	}
	return all / bytes * bytes / PAGE_BYTES;
}

#define BEST "AES-256-GCM, what this host takes; packets of "
#define ROW  seal_stage_open, seal_stage_run, seal_stage_close

const struct stage stage_seal[] = {
	{"seal/4k", BEST "4 KiB", 4, ROW},
	{"seal/8k", BEST "8 KiB, as over a port with an MTU of 9000", 8, ROW},
	{"seal/warm-8k", "the same packet again: its pages are in the cache", 8 | KIB_WARM, ROW},
	{"seal/64k", BEST "64 KiB", 64, ROW},
	{"seal/256k", BEST "256 KiB", 256, ROW},
	{"open/4k", BEST "4 KiB", 4 | KIB_OPEN, ROW},
	{"open/64k", BEST "64 KiB", 64 | KIB_OPEN, ROW},
	{"seal/openssl-4k", "the same by OpenSSL", 4 | KIB_OPENSSL, ROW},
	{"seal/openssl-64k", "the same by OpenSSL", 64 | KIB_OPENSSL, ROW},
	{NULL, NULL, 0, NULL, NULL, NULL},
};
