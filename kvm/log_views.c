// SPDX-License-Identifier: BSD-3-Clause
// The slots of all views and their dirty logs. Run by the agent's thread, in the VMM's process.

#include "log_views.h"

#include "marks.h"
#include "memslot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int log_views_init(struct log_views *l, const struct source_config *c, struct err *e)
{
	unsigned n = 0;

	*l = (struct log_views){.vm_fd = c->vm_fd};
	for (unsigned i = 0; i < c->map->n; i++)
		n += c->map->r[i].nviews;
	l->v = calloc(n ? n : 1, sizeof(*l->v));
	if (l->v == NULL)
		return err_set(e, ENOMEM, "out of memory for %u slots", n);
	for (unsigned i = 0; i < c->map->n; i++) {
		const struct region *r = &c->map->r[i];

		for (unsigned j = 0; j < r->nviews; j++) {
			struct log_view *lv = &l->v[l->n];

			lv->r = r;
			lv->v = &r->views[j];
			lv->flags = c->slot_flags ? c->slot_flags[l->n] : 0;
			if (slot_log_init(&lv->log, c->vm_fd, lv->v) < 0)
				return err_set(e, ENOMEM, "out of memory for the bitmap of slot %u",
					lv->v->slot);
			l->n++;
		}
	}
	return 0;
}

void log_views_fini(struct log_views *l)
{
	for (unsigned i = 0; i < l->n; i++)
		slot_log_fini(&l->v[i].log);
	free(l->v);
	memset(l, 0, sizeof(*l));
}

int log_views_on(struct log_views *l, struct err *e)
{
	for (unsigned i = 0; i < l->n; i++) {
		struct log_view *lv = &l->v[i];
		int rc = lv->on ? 0 : memslot_log(l->vm_fd, lv->r, lv->v, lv->flags, true);

		if (rc < 0)
			return err_sys(e, -rc,
				"region %s: KVM refuses the dirty log of slot %u; the slot must "
				"be as the library was told",
				lv->r->name, lv->v->slot);
		lv->on = true;
	}
	return 0;
}

int log_views_off(struct log_views *l, struct err *e)
{
	int worst = 0;

	for (unsigned i = 0; i < l->n; i++) {
		struct log_view *lv = &l->v[i];
		int rc = !lv->on ? 0 : memslot_log(l->vm_fd, lv->r, lv->v, lv->flags, false);

		if (rc < 0)
			worst = err_sys(e, -rc, "region %s: cannot end the dirty log of slot %u",
				lv->r->name, lv->v->slot);
		else
			lv->on = false;
		slot_log_forget(&lv->log);
	}
	return worst;
}

int log_view_take(struct log_view *lv, struct marks *pending)
{
	uint64_t *words = pending->words + lv->r->first_chunk;
	uint64_t first = lv->log.first_page / CHUNK_PAGES;
	uint64_t last = (lv->log.first_page + lv->log.npages - 1) / CHUNK_PAGES;
	int rc = slot_log_get(&lv->log);

	if (rc < 0)
		return rc;
	slot_log_show(&lv->log, words);
	slot_log_forget(&lv->log);
	for (uint64_t c = first; c <= last; c++)
		if (words[c] != 0)
			marks_or(pending, lv->r->first_chunk + c, words[c]);
	return 0;
}
