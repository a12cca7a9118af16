// SPDX-License-Identifier: BSD-3-Clause
// Who else writes the guest's memory (law 2), as the VMM tells it. godwit_* run on any thread of
// the VMM; the rest on the agent's thread.
//
// Invariant: while tracking is on, every writer that was told is seen. One that nobody sees is
// refused, by name: at the begin of a migration if it is there, when it comes if one is under way.

#include "agent.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool seen(const struct godwit *g, enum godwit_writer kind)
{
	switch (kind) {
	case GODWIT_WRITER_TELLS:
		return true;
	case GODWIT_WRITER_LOGS:
		return g->ops->track != NULL;
	default:
		return false;
	}
}

int godwit_add_writer(struct godwit *g, const char *name, enum godwit_writer kind)
{
	struct agent_writers *w = &g->writers;
	int at = -ENOSPC;

	if (name == NULL || name[0] == '\0' || strlen(name) >= AGENT_WRITER_NAME ||
		kind > GODWIT_WRITER_UNSEEN)
		return -EINVAL;
	pthread_mutex_lock(&w->lock);
	if (w->tracking && !seen(g, kind)) {
		at = -EBUSY;
	} else {
		for (int i = AGENT_WRITERS - 1; i >= 0; i--)
			if (w->one[i].name[0] == '\0')
				at = i;
	}
	if (at >= 0) {
		snprintf(w->one[at].name, AGENT_WRITER_NAME, "%s", name);
		w->one[at].kind = kind;
	}
	pthread_mutex_unlock(&w->lock);
	return at;
}

void godwit_remove_writer(struct godwit *g, int writer)
{
	struct agent_writers *w = &g->writers;

	if (writer < 0 || writer >= (int)AGENT_WRITERS)
		return;
	pthread_mutex_lock(&w->lock);
	w->one[writer].name[0] = '\0';
	pthread_mutex_unlock(&w->lock);
}

int agent_writers_begin(struct godwit *g, struct err *e)
{
	struct agent_writers *w = &g->writers;
	int rc = 0;

	pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; rc == 0 && i < AGENT_WRITERS; i++)
		if (w->one[i].name[0] != '\0' && !seen(g, w->one[i].kind))
			rc = err_set(e, ENOTSUP,
				"%s writes the guest's memory where nothing sees it; unplug it "
				"for the migration",
				w->one[i].name);
	w->tracking = rc == 0;
	pthread_mutex_unlock(&w->lock);
	return rc;
}

void agent_writers_end(struct godwit *g)
{
	pthread_mutex_lock(&g->writers.lock);
	g->writers.tracking = false;
	pthread_mutex_unlock(&g->writers.lock);
}
