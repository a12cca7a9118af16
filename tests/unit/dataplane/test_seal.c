// SPDX-License-Identifier: BSD-3-Clause
// Seals: each row against the others; epochs, replay, forgery; memory that changes while it is
// sealed; OpenSSL's allocations.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdatomic.h>

#include "region.h"
#include "seal.h"
#include "seed.h"

#define MOST CHUNK_BYTES

static atomic_ulong allocations;

static void *counting_malloc(size_t n, const char *file, int line)
{
	(void)file;
	(void)line;
	atomic_fetch_add(&allocations, 1);
	return malloc(n);
}

static void *counting_realloc(void *p, size_t n, const char *file, int line)
{
	(void)file;
	(void)line;
	atomic_fetch_add(&allocations, 1);
	return realloc(p, n);
}

static void counting_free(void *p, const char *file, int line)
{
	(void)file;
	(void)line;
	free(p);
}

// Pairs of seals.

struct ends {
	struct seed seed;
	struct seal_secret secret;
	struct seal *from, *to;
	uint8_t aad[64];
	uint8_t plain[MOST], sealed[MOST], opened[MOST];
	uint8_t tag[SEAL_TAG_BYTES];
};

static void ends_make(struct ends *x, const struct seal_ops *from, const struct seal_ops *to)
{
	struct err e;

	for (size_t i = 0; i < sizeof(x->secret); i++)
		((uint8_t *)&x->secret)[i] = (uint8_t)seed_next(&x->seed);
	assert_int_equal(seal_new(&x->from, from, &x->secret, -1, &e), 0);
	assert_int_equal(seal_new(&x->to, to, &x->secret, -1, &e), 0);
}

static void ends_free(struct ends *x)
{
	seal_free(x->from);
	seal_free(x->to);
}

// Seals bytes of x->plain as one segment or several, as packet `number`.
static unsigned send_one(struct ends *x, uint64_t number, size_t bytes, unsigned nseg)
{
	struct iovec seg[16];
	struct seal_text t = {.number = number,
		.aad = x->aad,
		.aad_bytes = sizeof(x->aad),
		.far = seed_below(&x->seed, 2) == 0,
		.nseg = nseg,
		.seg = seg,
		.out = x->sealed,
		.tag = x->tag};
	size_t at = 0;

	for (unsigned i = 0; i < nseg; i++) {
		size_t n = i + 1 == nseg ? bytes - at : seed_below(&x->seed, bytes - at + 1);

		seg[i] = (struct iovec){x->plain + at, n};
		at += n;
	}
	return seal_seal(x->from, &t, 1);
}

static enum seal_status take_one(struct ends *x, struct seal *to, uint64_t number, size_t bytes)
{
	struct iovec seg = {x->sealed, bytes};
	struct seal_text t = {.number = number,
		.aad = x->aad,
		.aad_bytes = sizeof(x->aad),
		.nseg = 1,
		.seg = &seg,
		.out = x->opened,
		.tag = x->tag};
	unsigned good = seal_open(to, &t, 1);

	assert_int_equal(good, t.status == SEAL_GOOD);
	if (t.status == SEAL_GOOD)
		assert_memory_equal(x->opened, x->plain, bytes);
	return t.status;
}

static void pass_one(struct ends *x, uint64_t number, size_t bytes)
{
	assert_int_equal(send_one(x, number, bytes, 1), 1);
	assert_int_equal(take_one(x, x->to, number, bytes), SEAL_GOOD);
}

// Every row with every row: lengths, segments, near and far, epochs.
static void rows_agree(void **state)
{
	static struct ends x;

	(void)state;
	x.seed = (struct seed){20};
	for (size_t i = 0; i < MOST; i++)
		x.plain[i] = (uint8_t)seed_next(&x.seed);
	for (const struct seal_ops *const *from = seal_table; *from != NULL; from++)
		for (const struct seal_ops *const *to = seal_table; *to != NULL; to++) {
			uint64_t number = 0;

			ends_make(&x, *from, *to);
			for (unsigned i = 0; i < 300; i++) {
				size_t bytes = i < 200 ? i : seed_below(&x.seed, MOST + 1);
				unsigned nseg = 1 + (unsigned)seed_below(&x.seed, 16);

				number += 1 + seed_below(&x.seed, 8) *
						      ((UINT64_C(1) << SEAL_EPOCH_SHIFT) / 8);
				x.aad[0]++;
				assert_int_equal(send_one(&x, number, bytes, nseg), 1);
				assert_int_equal(take_one(&x, x.to, number, bytes), SEAL_GOOD);
			}
			assert_true(number >> SEAL_EPOCH_SHIFT > 10);
			ends_free(&x);
		}
}

static void both_rows(void (*fn)(struct ends *x))
{
	static struct ends x;

	x.seed = (struct seed){20};
	for (const struct seal_ops *const *o = seal_table; *o != NULL; o++) {
		ends_make(&x, *o, *o);
		fn(&x);
		ends_free(&x);
	}
}

static void try_forgeries(struct ends *x)
{
	struct seal_secret other = x->secret;
	struct seal *back;
	struct err e;

	assert_int_equal(send_one(x, 7, 1000, 1), 1);
	x->sealed[500] ^= 1;
	assert_int_equal(take_one(x, x->to, 7, 1000), SEAL_FORGED);
	x->sealed[500] ^= 1;
	x->aad[63] ^= 0x80;
	assert_int_equal(take_one(x, x->to, 7, 1000), SEAL_FORGED);
	x->aad[63] ^= 0x80;
	x->tag[15] ^= 0x80;
	assert_int_equal(take_one(x, x->to, 7, 1000), SEAL_FORGED);
	x->tag[15] ^= 0x80;
	assert_int_equal(take_one(x, x->to, 7, 999), SEAL_FORGED);
	assert_int_equal(take_one(x, x->to, 8, 1000), SEAL_FORGED); // under another number
	assert_int_equal(take_one(x, x->to, 7 + (1 << SEAL_EPOCH_SHIFT), 1000), SEAL_FORGED);
	assert_int_equal(take_one(x, x->to, UINT64_C(7) << 40, 1000), SEAL_FORGED);
	assert_int_equal(take_one(x, x->to, UINT64_MAX, 1000), SEAL_FORGED);
	// Reflected: what one end sealed comes back to it. The other direction has its own secret.
	other.key[31] ^= 1;
	assert_int_equal(seal_new(&back, seal_row(x->from), &other, -1, &e), 0);
	assert_int_equal(take_one(x, back, 7, 1000), SEAL_FORGED);
	seal_free(back);
	// None of that changed anything.
	assert_int_equal(take_one(x, x->to, 7, 1000), SEAL_GOOD);
	assert_int_equal(take_one(x, x->to, 7, 1000), SEAL_REPLAYED);
}

static void forgeries(void **state)
{
	(void)state;
	both_rows(try_forgeries);
}

static void try_replays(struct ends *x)
{
	static struct {
		uint8_t text[16], tag[SEAL_TAG_BYTES];
		bool opened;
	} kept[3 * SEAL_WINDOW];
	const uint64_t base = (UINT64_C(1) << SEAL_EPOCH_SHIFT) - SEAL_WINDOW; // crosses an epoch
	uint64_t newest = 0;
	unsigned good = 0;

	for (unsigned i = 0; i < 3 * SEAL_WINDOW; i++) {
		assert_int_equal(send_one(x, base + i, 16, 1), 1);
		memcpy(kept[i].text, x->sealed, 16);
		memcpy(kept[i].tag, x->tag, sizeof(x->tag));
		kept[i].opened = false;
	}
	for (unsigned i = 0; i < 6 * SEAL_WINDOW; i++) {
		// Around a front that moves on, some far behind.
		uint64_t front = i / 2 < 3 * SEAL_WINDOW - 64 ? i / 2 : 3 * SEAL_WINDOW - 64;
		uint64_t back = seed_below(&x->seed, 64) == 0 ? SEAL_WINDOW + 200 : 100;
		uint64_t at = front + seed_below(&x->seed, 64);
		bool old;

		at -= seed_below(&x->seed, at < back ? at + 1 : back);
		old = kept[at].opened || (newest >= SEAL_WINDOW && at <= newest - SEAL_WINDOW);
		memcpy(x->sealed, kept[at].text, 16);
		memcpy(x->tag, kept[at].tag, sizeof(x->tag));
		assert_int_equal(
			take_one(x, x->to, base + at, 16), old ? SEAL_REPLAYED : SEAL_GOOD);
		good += !old;
		kept[at].opened = true;
		newest = at > newest ? at : newest;
	}
	assert_true(good > SEAL_WINDOW);
}

static void replays(void **state)
{
	(void)state;
	both_rows(try_replays);
}

static void try_numbers(struct ends *x)
{
	const uint64_t epoch = UINT64_C(1) << SEAL_EPOCH_SHIFT;
	uint8_t first[16];

	pass_one(x, 0, 16);
	memcpy(first, x->sealed, 16);
	assert_int_equal(send_one(x, 0, 16, 1), 0); // never twice
	pass_one(x, 5, 16);
	assert_int_equal(send_one(x, 4, 16, 1), 0);
	assert_int_equal(send_one(x, 2 * epoch, 16, 1), 0); // an epoch is left out
	assert_int_equal(send_one(x, UINT64_MAX, 16, 1), 0);
	pass_one(x, 6, 16);
	pass_one(x, 2 * epoch - 1, 16);
	pass_one(x, 2 * epoch, 16);
	assert_memory_not_equal(first, x->sealed, 16);
}

static void numbers(void **state)
{
	(void)state;
	both_rows(try_numbers);
}

// The guest writes while its page is sealed: what was sealed opens all the same (law 10).
static _Atomic bool stop;

static void *scribble(void *arg)
{
	_Atomic uint64_t *word = arg;

	for (uint64_t i = 0; !atomic_load_explicit(&stop, memory_order_relaxed); i++)
		atomic_store_explicit(&word[i % (MOST / 8)], i, memory_order_relaxed);
	return NULL;
}

static void try_live(struct ends *x)
{
	static uint8_t before[MOST];
	unsigned changed = 0;
	pthread_t t;

	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&t, NULL, scribble, x->plain), 0);
	for (uint64_t i = 1; i <= 300 || changed < 3; i++) {
		struct iovec out = {x->sealed, MOST};
		struct seal_text o = {.number = i,
			.aad = x->aad,
			.aad_bytes = sizeof(x->aad),
			.nseg = 1,
			.seg = &out,
			.out = x->opened,
			.tag = x->tag};

		assert_int_equal(send_one(x, i, MOST, 1 + i % 16), 1);
		assert_int_equal(seal_open(x->to, &o, 1), 1);
		changed += memcmp(before, x->opened, MOST) != 0;
		memcpy(before, x->opened, MOST);
	}
	atomic_store(&stop, true);
	pthread_join(t, NULL);
}

static void live_memory(void **state)
{
	(void)state;
	both_rows(try_live);
}

// In place, as a ring is opened; nothing outside of the text is touched.
static void in_place(void **state)
{
	uint8_t *map = mmap(NULL, MOST + 2 * PAGE_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	static struct ends x;

	(void)state;
	assert_true(map != MAP_FAILED);
	assert_int_equal(mprotect(map + MOST + PAGE_BYTES, PAGE_BYTES, PROT_NONE), 0);
	x.seed = (struct seed){20};
	for (const struct seal_ops *const *o = seal_table; *o != NULL; o++) {
		ends_make(&x, *o, *o);
		for (unsigned i = 0; i < 200; i++) {
			size_t bytes = i < 100 ? i : 1 + seed_below(&x.seed, MOST);
			uint8_t *at = map + MOST + PAGE_BYTES - bytes;
			struct iovec seg = {at, bytes};
			struct seal_text t = {.number = i,
				.aad = x.aad,
				.aad_bytes = 64,
				.nseg = 1,
				.seg = &seg,
				.out = at,
				.tag = x.tag};

			memset(at, (int)i, bytes);
			at[-1] = 0x77;
			assert_int_equal(seal_seal(x.from, &t, 1), 1);
			assert_int_equal(seal_open(x.to, &t, 1), 1);
			for (size_t j = 0; j < bytes; j++)
				assert_int_equal(at[j], (uint8_t)i);
			assert_int_equal(at[-1], 0x77);
		}
		ends_free(&x);
	}
	munmap(map, MOST + 2 * PAGE_BYTES);
}

static void try_allocations(struct ends *x)
{
	unsigned long before;

	pass_one(x, 1, MOST);
	before = atomic_load(&allocations);
	for (uint64_t i = 0; i < 4; i++)
		pass_one(x, (i << SEAL_EPOCH_SHIFT) + 2, 4096);
	x->tag[0] ^= 1;
	assert_int_equal(
		take_one(x, x->to, (UINT64_C(3) << SEAL_EPOCH_SHIFT) + 3, 4096), SEAL_FORGED);
	assert_int_equal(atomic_load(&allocations), before);
}

static void no_allocations(void **state)
{
	(void)state;
	assert_true(atomic_load(&allocations) > 0); // it is counted at all
	both_rows(try_allocations);
}

static void names(void **state)
{
	(void)state;
	assert_non_null(seal_best("aes-256-gcm"));
	assert_null(seal_best("none"));
	seal_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_agree),
		cmocka_unit_test(forgeries),
		cmocka_unit_test(replays),
		cmocka_unit_test(numbers),
		cmocka_unit_test(live_memory),
		cmocka_unit_test(in_place),
		cmocka_unit_test(no_allocations),
		cmocka_unit_test(names),
	};

	if (!CRYPTO_set_mem_functions(counting_malloc, counting_realloc, counting_free))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
