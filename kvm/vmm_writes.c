// SPDX-License-Identifier: BSD-3-Clause
// Dirty source "vmm-writes". vmm_writes_mark is run by any thread of the VMM; the rest by the
// agent's thread.
// Invariant: marks land in `told`; each look exchanges them into `pending`, which it reports until
// it is armed. So arm never consumes a mark that no look has reported.

#include "vmm_writes.h"

#include "marks.h"
#include "plant.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

struct vmm_writes {
	struct source source;
	atomic_bool on;       /* agent: wo; any thread: ro */
	struct marks told;    /* any thread marks, agent exchanges */
	struct marks pending; /* agent only */
};

void vmm_writes_mark(struct source *s, uint64_t page, uint64_t n)
{
	struct vmm_writes *w = (struct vmm_writes *)s;

	if (plant(PLANT_LAW2_FORGET_VMM))
		return;
	/* Partner: the fence in vmm_writes_start. Either this load sees that tracking is on, or the
	 * bytes written before are seen by all that is read after start was answered. */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&w->on, memory_order_relaxed))
		marks_range(&w->told, page, n);
}

static void vmm_writes_close(struct source *s)
{
	struct vmm_writes *w = (struct vmm_writes *)s;

	if (w == NULL)
		return;
	marks_fini(&w->told);
	marks_fini(&w->pending);
	free(w);
}

static int vmm_writes_open(struct source **s, const struct source_config *c, struct err *e)
{
	struct vmm_writes *w = calloc(1, sizeof(*w));

	if (w == NULL || marks_init(&w->told, c->map->nchunks) < 0 ||
		marks_init(&w->pending, c->map->nchunks) < 0) {
		vmm_writes_close(w != NULL ? &w->source : NULL);
		return err_set(e, ENOMEM, "out of memory for the bitmap of the VMM's own writes");
	}
	w->source.ops = &source_vmm_writes;
	*s = &w->source;
	return 0;
}

static void vmm_writes_info(const struct source *s, struct source_info *info)
{
	(void)s;
	info->granule_bytes = PAGE_BYTES;
	info->writers = SOURCE_SEES_TOLD;
	info->starts_all_dirty = false;
	info->mode = "told";
}

static int vmm_writes_start(struct source *s, struct err *e)
{
	struct vmm_writes *w = (struct vmm_writes *)s;

	(void)e;
	atomic_store_explicit(&w->on, true, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst); /* partner: vmm_writes_mark */
	return 0;
}

static int64_t vmm_writes_look(struct source *s, uint64_t *out, bool last, struct err *e)
{
	struct vmm_writes *w = (struct vmm_writes *)s;

	(void)last;
	(void)e;
	marks_move(&w->told, &w->pending);
	return marks_show(&w->pending, out);
}

static int64_t vmm_writes_arm(struct source *s, uint64_t first, uint64_t n, const uint64_t *want,
	uint64_t *out, struct err *e)
{
	struct vmm_writes *w = (struct vmm_writes *)s;

	(void)out;
	(void)e;
	marks_clear_words(&w->pending, first, n, want);
	return 0;
}

static void vmm_writes_put_back(struct source *s, uint64_t first, uint64_t n, const uint64_t *words)
{
	struct vmm_writes *w = (struct vmm_writes *)s;

	for (uint64_t c = 0; c < n; c++)
		marks_or(&w->pending, first + c, words[c]);
}

static int vmm_writes_stop(struct source *s, struct err *e)
{
	struct vmm_writes *w = (struct vmm_writes *)s;

	(void)e;
	/* A thread that is just marking may leave a mark behind; the next session sends that page
	 * once more. So told is emptied by exchange, not dropped under its hands. */
	atomic_store(&w->on, false);
	marks_move(&w->told, &w->pending);
	marks_drop(&w->pending);
	return 0;
}

const struct source_ops source_vmm_writes = {
	.name = "vmm-writes",
	.open = vmm_writes_open,
	.info = vmm_writes_info,
	.start = vmm_writes_start,
	.look = vmm_writes_look,
	.arm = vmm_writes_arm,
	.put_back = vmm_writes_put_back,
	.stop = vmm_writes_stop,
	.close = vmm_writes_close,
};
