// SPDX-License-Identifier: BSD-3-Clause
// Each row of the seal port against NIST's known answers.
//
// Usage: test_seal_answers VECTORS

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "seal.h"

static const char *vectors;

struct answer {
	size_t key_n, iv_n, pt_n, aad_n, ct_n, tag_n;
	uint8_t key[64], iv[64], pt[256], aad[256], ct[256], tag[64];
	bool fail;
};

static size_t from_hex(uint8_t *to, size_t room, const char *text)
{
	size_t n = 0;
	unsigned v;

	text += strspn(text, " ");
	while (n < room && sscanf(text + 2 * n, "%2x", &v) == 1)
		to[n++] = (uint8_t)v;
	return n;
}

static void try_answer(const struct answer *a, const struct seal_ops *ops)
{
	uint8_t out[256], tag[SEAL_TAG_BYTES];
	struct iovec pt = {(void *)a->pt, a->pt_n}, ct = {(void *)a->ct, a->ct_n};
	struct seal_text t = {.aad = a->aad,
		.aad_bytes = (uint32_t)a->aad_n,
		.nseg = 1,
		.seg = &pt,
		.out = out,
		.tag = tag};
	struct seal_cipher *c;

	assert_int_equal(a->key_n, SEAL_KEY_BYTES);
	assert_int_equal(a->iv_n, SEAL_NONCE_BYTES);
	assert_int_equal(a->tag_n, SEAL_TAG_BYTES);
	assert_int_equal(ops->open(&c, -1, NULL), 0);
	ops->set_key(c, a->key);
	if (!a->fail) {
		assert_true(ops->seal(c, a->iv, &t));
		assert_memory_equal(out, a->ct, a->ct_n);
		assert_memory_equal(tag, a->tag, SEAL_TAG_BYTES);
	}
	t.seg = &ct;
	memcpy(tag, a->tag, sizeof(tag));
	assert_int_equal(ops->unseal(c, a->iv, &t), !a->fail);
	if (!a->fail)
		assert_memory_equal(out, a->pt, a->pt_n);
	for (unsigned bit = 0; bit < 8 * SEAL_TAG_BYTES; bit++) {
		tag[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_false(!a->fail && ops->unseal(c, a->iv, &t));
		tag[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	ops->close(c);
}

static void known_answers(void **state)
{
	FILE *f = fopen(vectors, "r");
	struct answer a = {0};
	unsigned cases = 0;
	char line[1024];
	bool more = true;

	(void)state;
	assert_non_null(f);
	while (more) {
		more = fgets(line, sizeof(line), f) != NULL;
		if (!more || line[0] == '\n') { // a case ends
			for (const struct seal_ops *const *o = seal_table;
				a.key_n > 0 && *o != NULL; o++)
				try_answer(&a, *o);
			cases += a.key_n > 0;
			a = (struct answer){0};
		} else if (strncmp(line, "Key =", 5) == 0) {
			a.key_n = from_hex(a.key, sizeof(a.key), line + 5);
		} else if (strncmp(line, "IV =", 4) == 0) {
			a.iv_n = from_hex(a.iv, sizeof(a.iv), line + 4);
		} else if (strncmp(line, "PT =", 4) == 0) {
			a.pt_n = from_hex(a.pt, sizeof(a.pt), line + 4);
		} else if (strncmp(line, "AAD =", 5) == 0) {
			a.aad_n = from_hex(a.aad, sizeof(a.aad), line + 5);
		} else if (strncmp(line, "CT =", 4) == 0) {
			a.ct_n = from_hex(a.ct, sizeof(a.ct), line + 4);
		} else if (strncmp(line, "Tag =", 5) == 0) {
			a.tag_n = from_hex(a.tag, sizeof(a.tag), line + 5);
		} else if (strncmp(line, "FAIL", 4) == 0) {
			a.fail = true;
		}
	}
	fclose(f);
	assert_int_equal(cases, 13);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_answers),
	};

	if (argc < 2) {
		fprintf(stderr, "usage: test_seal_answers VECTORS [LIBRARY]\n");
		return 1;
	}
	if (argc > 2 && strcmp(seal_best("aes-256-gcm")->by, argv[2]) != 0) {
		fprintf(stderr, "%s seals here\n", seal_best("aes-256-gcm")->by);
		return 1;
	}
	vectors = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
