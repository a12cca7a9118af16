// SPDX-License-Identifier: BSD-3-Clause
// Dirty source "fake": behaves as KVM's log with manual protect does, in memory. Tests only, one
// thread.
// Invariant: `log` is what a kernel would hold; `seen` is what look reported of it; arm clears in
// log only what seen holds.

#include "source_fake.h"

#include "bits.h"
#include "plant.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct source_fake {
	struct source source;
	uint64_t nchunks;
	bool on;
	uint64_t *log;
	uint64_t *seen;
	void (*step)(void *arg);
	void *step_arg;
};

static void step(struct source_fake *f)
{
	if (f->step != NULL)
		f->step(f->step_arg);
}

void source_fake_write(struct source *s, uint64_t page)
{
	struct source_fake *f = (struct source_fake *)s;

	if (f->on && page / 64 < f->nchunks)
		bits_set(f->log, page);
}

void source_fake_step(struct source *s, void (*fn)(void *arg), void *arg)
{
	struct source_fake *f = (struct source_fake *)s;

	f->step = fn;
	f->step_arg = arg;
}

static void fake_close(struct source *s)
{
	struct source_fake *f = (struct source_fake *)s;

	if (f == NULL)
		return;
	free(f->log);
	free(f->seen);
	free(f);
}

static int fake_open(struct source **s, const struct source_config *c, struct err *e)
{
	struct source_fake *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return err_set(e, ENOMEM, "out of memory");
	f->source.ops = &source_fake;
	f->nchunks = c->map->nchunks;
	f->log = calloc(f->nchunks, sizeof(uint64_t));
	f->seen = calloc(f->nchunks, sizeof(uint64_t));
	if (f->log == NULL || f->seen == NULL) {
		fake_close(&f->source);
		return err_set(e, ENOMEM, "out of memory");
	}
	*s = &f->source;
	return 0;
}

static void fake_info(const struct source *s, struct source_info *info)
{
	(void)s;
	info->granule_bytes = PAGE_BYTES;
	info->writers = SOURCE_SEES_TOLD;
	info->starts_all_dirty = false;
	info->mode = "in memory";
}

static int fake_start(struct source *s, struct err *e)
{
	(void)e;
	((struct source_fake *)s)->on = true;
	return 0;
}

static int64_t fake_look(struct source *s, uint64_t *out, bool last, struct err *e)
{
	struct source_fake *f = (struct source_fake *)s;
	int64_t pages = 0;

	(void)last;
	(void)e;
	for (uint64_t c = 0; c < f->nchunks; c++) {
		step(f);
		f->seen[c] |= f->log[c];
		if (f->seen[c] == 0)
			continue;
		pages += bits_count(f->seen[c] & ~out[c]);
		out[c] |= f->seen[c];
	}
	return pages;
}

static int64_t fake_arm(struct source *s, uint64_t first, uint64_t n, const uint64_t *want,
	uint64_t *out, struct err *e)
{
	struct source_fake *f = (struct source_fake *)s;

	(void)out;
	(void)e;
	for (uint64_t c = 0; c < n; c++) {
		uint64_t bits;

		step(f);
		bits = f->seen[first + c] & want[c];
		if (plant(PLANT_LAW1_CLEAR_ALL_ONES) && want[c] != 0)
			bits = ~UINT64_C(0);
		f->log[first + c] &= ~bits;
		f->seen[first + c] &= ~bits;
	}
	step(f);
	return 0;
}

static void fake_put_back(struct source *s, uint64_t first, uint64_t n, const uint64_t *words)
{
	struct source_fake *f = (struct source_fake *)s;

	for (uint64_t c = 0; c < n; c++)
		f->log[first + c] |= words[c];
}

static int fake_stop(struct source *s, struct err *e)
{
	struct source_fake *f = (struct source_fake *)s;

	(void)e;
	f->on = false;
	memset(f->log, 0, f->nchunks * sizeof(uint64_t));
	memset(f->seen, 0, f->nchunks * sizeof(uint64_t));
	return 0;
}

const struct source_ops source_fake = {
	.name = "fake",
	.open = fake_open,
	.info = fake_info,
	.start = fake_start,
	.look = fake_look,
	.arm = fake_arm,
	.put_back = fake_put_back,
	.stop = fake_stop,
	.close = fake_close,
};
