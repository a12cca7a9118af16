// SPDX-License-Identifier: BSD-3-Clause
// Seals: nonces, epochs and replay, whatever row does the cipher. Made and freed by seal_open.c;
// the rest is run by the one polling core that owns the seal.
//
// Invariants: with one secret no packet number is sealed twice, so no nonce is. The newest epoch
// that was seen changes only with a packet whose tag is right, so a forger can't move it; nor can
// he spend anything but one look at a tag for each packet of his.

#include "seal_impl.h"

#include <string.h>

// Never a packet's: its key stream is the next epoch's secret.
#define NEXT_NUMBER UINT64_MAX
#define NUMBERS     (UINT64_C(1) << 62)

// RFC 9001, section 5.3.
static void nonce_of(uint8_t nonce[SEAL_NONCE_BYTES], const uint8_t *iv, uint64_t number)
{
	memcpy(nonce, iv, SEAL_NONCE_BYTES);
	for (unsigned i = 0; i < 8; i++)
		nonce[SEAL_NONCE_BYTES - 1 - i] ^= (uint8_t)(number >> 8 * i);
}

// The key after this one. False when the library failed.
bool seal_next_epoch(struct seal_epoch *next, struct seal_epoch *from)
{
	uint8_t tag[SEAL_TAG_BYTES], nonce[SEAL_NONCE_BYTES];
	struct seal_secret secret = {0};
	struct iovec zeros = {&secret, sizeof(secret)};
	struct seal_text t = {.nseg = 1, .seg = &zeros, .out = (uint8_t *)&secret, .tag = tag};
	bool ok;

	nonce_of(nonce, from->iv, NEXT_NUMBER);
	ok = from->cipher->ops->seal(from->cipher, nonce, &t);
	next->cipher->ops->set_key(next->cipher, secret.key);
	memcpy(next->iv, secret.iv, sizeof(next->iv));
	explicit_bzero(&secret, sizeof(secret));
	return ok;
}

// The oldest of the epochs becomes the one after the newest.
static bool advance(struct seal *s)
{
	struct seal_epoch oldest = s->key[0];

	for (unsigned i = 0; i + 1 < SEAL_EPOCHS; i++)
		s->key[i] = s->key[i + 1];
	s->key[SEAL_EPOCHS - 1] = oldest;
	s->epoch++;
	return seal_next_epoch(&s->key[SEAL_EPOCHS - 1], &s->key[SEAL_EPOCHS - 2]);
}

static bool seal_one(struct seal *s, struct seal_text *t)
{
	uint8_t nonce[SEAL_NONCE_BYTES];
	uint64_t epoch = t->number >> SEAL_EPOCH_SHIFT;

	if (t->number < s->next || t->number >= NUMBERS || epoch > s->epoch + 1)
		return false;
	if (epoch > s->epoch && !advance(s))
		return false;
	s->next = t->number + 1;
	nonce_of(nonce, s->key[SEAL_NOW].iv, t->number);
	return s->key[SEAL_NOW].cipher->ops->seal(s->key[SEAL_NOW].cipher, nonce, t);
}

unsigned seal_seal(struct seal *s, struct seal_text *t, unsigned n)
{
	unsigned i = 0;

	while (i < n && seal_one(s, &t[i]))
		i++;
	return i;
}

// Numbers below next that were opened: bit number % SEAL_WINDOW. Those of the window's far end are
// forgotten as it moves.
static bool seen(const struct seal *s, uint64_t number)
{
	if (number >= s->next)
		return false;
	if (s->next - number > SEAL_WINDOW)
		return true;
	return s->seen[number % SEAL_WINDOW / 64] >> number % 64 & 1;
}

static void mark_seen(struct seal *s, uint64_t number)
{
	if (number >= s->next + SEAL_WINDOW)
		memset(s->seen, 0, sizeof(s->seen));
	else
		for (uint64_t i = s->next; i < number; i++)
			s->seen[i % SEAL_WINDOW / 64] &= ~(UINT64_C(1) << i % 64);
	if (number >= s->next)
		s->next = number + 1;
	s->seen[number % SEAL_WINDOW / 64] |= UINT64_C(1) << number % 64;
}

static enum seal_status open_one(struct seal *s, struct seal_text *t)
{
	uint8_t nonce[SEAL_NONCE_BYTES];
	// Which of the three keys: of the epoch before, this one or the next.
	uint64_t which = (t->number >> SEAL_EPOCH_SHIFT) + SEAL_NOW - s->epoch;
	struct seal_epoch *k = &s->key[which < SEAL_EPOCHS ? which : SEAL_NOW];

	if (seen(s, t->number))
		return SEAL_REPLAYED;
	if (which >= SEAL_EPOCHS || t->number >= NUMBERS)
		return SEAL_FORGED;
	nonce_of(nonce, k->iv, t->number);
	if (!k->cipher->ops->unseal(k->cipher, nonce, t))
		return SEAL_FORGED;
	if (which > SEAL_NOW && !advance(s))
		return SEAL_FORGED;
	mark_seen(s, t->number);
	return SEAL_GOOD;
}

unsigned seal_open(struct seal *s, struct seal_text *t, unsigned n)
{
	unsigned good = 0;

	for (unsigned i = 0; i < n; i++) {
		t[i].status = open_one(s, &t[i]);
		good += t[i].status == SEAL_GOOD;
	}
	return good;
}
