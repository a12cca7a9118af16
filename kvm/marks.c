// SPDX-License-Identifier: BSD-3-Clause
// Marked pages. marks_or is run by any thread of the VMM; the rest by the agent's thread.
// Invariant: a mark is set in its word first and in its group second, and the owner clears the
// group first and exchanges the word second. So a mark that the owner misses has a group bit that
// the owner has not cleared yet, and the next walk finds it.

#include "marks.h"

#include "bits.h"
#include "map.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

int marks_init(struct marks *m, uint64_t nwords)
{
	memset(m, 0, sizeof(*m));
	m->nwords = nwords;
	m->ngroups = (nwords + MARKS_GROUP - 1) / MARKS_GROUP;
	m->words = map_lazy(nwords * sizeof(uint64_t));
	m->groups = map_lazy((m->ngroups + 63) / 64 * sizeof(uint64_t));
	if (m->words == NULL || m->groups == NULL) {
		marks_fini(m);
		return -ENOMEM;
	}
	return 0;
}

void marks_fini(struct marks *m)
{
	map_free(m->words, m->nwords * sizeof(uint64_t));
	map_free(m->groups, (m->ngroups + 63) / 64 * sizeof(uint64_t));
	memset(m, 0, sizeof(*m));
}

void marks_or(struct marks *m, uint64_t word, uint64_t bits)
{
	uint64_t group = word / MARKS_GROUP;
	uint64_t bit = UINT64_C(1) << (group % 64);

	if (bits == 0)
		return;
	/* All seq_cst: the load below must not pass the OR before it (see the invariant above). */
	__atomic_fetch_or(&m->words[word], bits, __ATOMIC_SEQ_CST);
	if ((__atomic_load_n(&m->groups[group / 64], __ATOMIC_SEQ_CST) & bit) == 0)
		__atomic_fetch_or(&m->groups[group / 64], bit, __ATOMIC_SEQ_CST);
}

void marks_range(struct marks *m, uint64_t bit, uint64_t n)
{
	uint64_t end = bit + n;

	while (bit < end) {
		unsigned at = bit % 64;
		unsigned len = end - bit < 64 - at ? (unsigned)(end - bit) : 64 - at;

		marks_or(m, bit / 64, bits_low(len) << at);
		bit += len;
	}
}

void marks_clear(struct marks *m, uint64_t word, uint64_t bits)
{
	if (__atomic_load_n(&m->words[word], __ATOMIC_RELAXED) & bits)
		__atomic_fetch_and(&m->words[word], ~bits, __ATOMIC_SEQ_CST);
}

struct clearing {
	struct marks *m;
	uint64_t first, n;
	const uint64_t *want;
};

static int clear_groups(void *arg, uint64_t start, uint64_t len)
{
	struct clearing *c = arg;
	uint64_t from = start * MARKS_GROUP;
	uint64_t end = (start + len) * MARKS_GROUP;

	if (from < c->first)
		from = c->first;
	if (end > c->first + c->n)
		end = c->first + c->n;
	for (uint64_t w = from; w < end; w++)
		marks_clear(c->m, w, c->want[w - c->first]);
	return 0;
}

void marks_clear_words(struct marks *m, uint64_t first, uint64_t n, const uint64_t *want)
{
	struct clearing c = {m, first, n, want};
	uint64_t group = first / MARKS_GROUP;

	if (n > 0)
		bits_runs(m->groups, group, (first + n - 1) / MARKS_GROUP - group + 1, clear_groups,
			&c);
}

static void group_words(const struct marks *m, uint64_t group, uint64_t *first, uint64_t *end)
{
	*first = group * MARKS_GROUP;
	*end = *first + MARKS_GROUP;
	if (*end > m->nwords)
		*end = m->nwords;
}

void marks_move(struct marks *from, struct marks *to)
{
	for (uint64_t i = 0; i < (from->ngroups + 63) / 64; i++) {
		uint64_t left = 0;

		if (__atomic_load_n(&from->groups[i], __ATOMIC_SEQ_CST) != 0)
			left = __atomic_exchange_n(&from->groups[i], 0, __ATOMIC_SEQ_CST);
		for (; left != 0; left &= left - 1) {
			uint64_t w, end;

			group_words(from, i * 64 + (unsigned)__builtin_ctzll(left), &w, &end);
			for (; w < end; w++)
				if (__atomic_load_n(&from->words[w], __ATOMIC_SEQ_CST) != 0)
					marks_or(to, w,
						__atomic_exchange_n(
							&from->words[w], 0, __ATOMIC_SEQ_CST));
		}
	}
}

struct showing {
	struct marks *m;
	uint64_t *out;
	int64_t count;
};

static int show_groups(void *arg, uint64_t start, uint64_t len)
{
	struct showing *s = arg;

	for (uint64_t g = start; g < start + len; g++) {
		uint64_t w, end, any = 0;

		group_words(s->m, g, &w, &end);
		for (; w < end; w++) {
			uint64_t bits = s->m->words[w];

			any |= bits;
			if (bits == 0)
				continue;
			s->count += bits_count(bits & ~s->out[w]);
			s->out[w] |= bits;
		}
		if (any == 0)
			bits_clear(s->m->groups, g);
	}
	return 0;
}

int64_t marks_show(struct marks *m, uint64_t *out)
{
	struct showing s = {m, out, 0};

	bits_runs(m->groups, 0, m->ngroups, show_groups, &s);
	return s.count;
}

void marks_drop(struct marks *m)
{
	map_drop(m->words, m->nwords * sizeof(uint64_t));
	map_drop(m->groups, (m->ngroups + 63) / 64 * sizeof(uint64_t));
}
