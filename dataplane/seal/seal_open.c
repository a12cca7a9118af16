// SPDX-License-Identifier: BSD-3-Clause
// Makes and frees seals, and the table of their rows. Run by control threads.

#include "seal_impl.h"

#include "mem.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

const struct seal_ops *const seal_table[] = {
#ifdef GODWIT_IPSECMB // where the library exists
	&seal_ipsecmb,
#endif
	&seal_openssl,
	NULL,
};

const struct seal_ops *seal_best(const char *name)
{
	for (const struct seal_ops *const *o = seal_table; *o != NULL; o++) {
		struct seal_cipher *c;

		if (strcmp((*o)->name, name) != 0 || (*o)->open(&c, -1, NULL) < 0)
			continue;
		(*o)->close(c);
		return *o;
	}
	return NULL;
}

int seal_new(struct seal **out, const struct seal_ops *ops, const struct seal_secret *secret,
	int node, struct err *e)
{
	struct seal *s = mem_new(sizeof(*s), node);
	uint8_t nobody[SEAL_KEY_BYTES];
	int rc = 0;

	if (s == NULL)
		return err_set(e, ENOMEM, "no memory for the seal of a flow");
	for (unsigned i = 0; rc == 0 && i < SEAL_EPOCHS; i++)
		rc = ops->open(&s->key[i].cipher, node, e);
	if (rc == 0 && getrandom(nobody, sizeof(nobody), 0) != (ssize_t)sizeof(nobody))
		rc = err_sys(e, errno, "cannot get random bytes for the seal of a flow");
	if (rc == 0) {
		ops->set_key(s->key[0].cipher, nobody);
		ops->set_key(s->key[SEAL_NOW].cipher, secret->key);
		memcpy(s->key[SEAL_NOW].iv, secret->iv, SEAL_NONCE_BYTES);
		if (!seal_next_epoch(&s->key[SEAL_NOW + 1], &s->key[SEAL_NOW]))
			rc = err_set(
				e, EIO, "%s by %s does not work on this host", ops->name, ops->by);
	}
	if (rc < 0) {
		seal_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

void seal_free(struct seal *s)
{
	if (s == NULL)
		return;
	for (unsigned i = 0; i < SEAL_EPOCHS; i++)
		if (s->key[i].cipher != NULL)
			s->key[i].cipher->ops->close(s->key[i].cipher);
	explicit_bzero(s, sizeof(*s));
	mem_free(s, sizeof(*s));
}

const struct seal_ops *seal_row(const struct seal *s)
{
	return s->key[SEAL_NOW].cipher->ops;
}
