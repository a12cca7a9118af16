// SPDX-License-Identifier: BSD-3-Clause
// Several dirty sources behind one port. Run by whoever runs them: the agent's thread.
// Invariants: all are started, or none; each is armed with what is about to be sent, that is what
// was asked for and what arming the others brought up, never with more.

#include "source_set.h"

#include "map.h"

#include <errno.h>
#include <stdlib.h>

struct set {
	struct source source;
	unsigned n;
	struct source *s[SOURCE_SET_MOST];
	uint64_t nchunks;
	uint64_t *want; /* scratch of arm; lazily populated */
};

struct source *source_set_new(uint64_t nchunks)
{
	struct set *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->source.ops = &source_set;
	t->nchunks = nchunks;
	t->want = map_lazy(nchunks * sizeof(uint64_t));
	if (t->want == NULL) {
		free(t);
		return NULL;
	}
	return &t->source;
}

int source_set_add(struct source *set, struct source *s)
{
	struct set *t = (struct set *)set;

	if (t->n == SOURCE_SET_MOST)
		return -ENOSPC;
	t->s[t->n++] = s;
	return 0;
}

static void set_info(const struct source *s, struct source_info *info)
{
	const struct set *t = (const struct set *)s;

	*info = (struct source_info){.granule_bytes = PAGE_BYTES, .mode = "several"};
	for (unsigned i = 0; i < t->n; i++) {
		struct source_info one;

		t->s[i]->ops->info(t->s[i], &one);
		if (one.granule_bytes > info->granule_bytes)
			info->granule_bytes = one.granule_bytes;
		info->writers |= one.writers;
		info->starts_all_dirty |= one.starts_all_dirty;
	}
}

static int set_stop(struct source *s, struct err *e)
{
	struct set *t = (struct set *)s;
	int worst = 0;

	for (unsigned i = t->n; i-- > 0;) {
		int rc = t->s[i]->ops->stop(t->s[i], e);

		worst = rc < 0 ? rc : worst;
	}
	return worst;
}

static int set_start(struct source *s, struct err *e)
{
	struct set *t = (struct set *)s;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < t->n; i++)
		rc = t->s[i]->ops->start(t->s[i], e);
	if (rc < 0)
		set_stop(s, NULL);
	return rc;
}

static int64_t set_look(struct source *s, uint64_t *out, bool last, struct err *e)
{
	struct set *t = (struct set *)s;
	int64_t pages = 0;

	for (unsigned i = 0; i < t->n; i++) {
		int64_t n = t->s[i]->ops->look(t->s[i], out, last, e);

		if (n < 0)
			return n;
		pages += n;
	}
	return pages;
}

/* What arming brought up is about to be sent too: the sources after it forget it with the rest. */
static const uint64_t *widen(
	struct set *t, uint64_t first, uint64_t n, const uint64_t *want, const uint64_t *out)
{
	for (uint64_t c = 0; c < n; c++) {
		uint64_t w = want[c] | out[c];

		if (t->want[first + c] != w)
			t->want[first + c] = w;
	}
	return t->want + first;
}

static int64_t set_arm(struct source *s, uint64_t first, uint64_t n, const uint64_t *want,
	uint64_t *out, struct err *e)
{
	struct set *t = (struct set *)s;
	int64_t pages = 0;

	for (unsigned i = 0; i < t->n; i++) {
		int64_t more = t->s[i]->ops->arm(t->s[i], first, n, want, out, e);

		if (more < 0)
			return more;
		if (more > 0)
			want = widen(t, first, n, want, out);
		pages += more;
	}
	return pages;
}

/* One is enough: what it reports is armed in all. */
static void set_put_back(struct source *s, uint64_t first, uint64_t n, const uint64_t *words)
{
	struct set *t = (struct set *)s;

	if (t->n > 0)
		t->s[0]->ops->put_back(t->s[0], first, n, words);
}

static void set_close(struct source *s)
{
	struct set *t = (struct set *)s;

	if (t == NULL)
		return;
	for (unsigned i = t->n; i-- > 0;)
		t->s[i]->ops->close(t->s[i]);
	map_free(t->want, t->nchunks * sizeof(uint64_t));
	free(t);
}

const struct source_ops source_set = {
	.name = "several",
	.info = set_info,
	.start = set_start,
	.look = set_look,
	.arm = set_arm,
	.put_back = set_put_back,
	.stop = set_stop,
	.close = set_close,
};
