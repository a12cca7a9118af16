// SPDX-License-Identifier: BSD-3-Clause
// One word with a QEMU that has no session any more: recovery, and resolve. Run by the control
// loop, blocking for a short time that the caller gives.

#include "vmm.h"

#include "godwit.h"
#include "qemu.h"
#include "qemu_disk.h"
#include "qemu_state.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

/* A guest that is paused, and was not migrated from here, is told from a fenced one by its state:
 * QEMU keeps that for whoever comes. */
static unsigned state_of(const struct qemu *u)
{
	if (u->running)
		return GODWIT_RUNNING;
	if (strcmp(u->status, "inmigrate") == 0)
		return GODWIT_INCOMING;
	return strcmp(u->status, "postmigrate") == 0 ? GODWIT_FENCED : GODWIT_PAUSED;
}

static int quit(struct qemu *u, unsigned timeout_ms, struct err *e)
{
	struct pollfd p = {.fd = u->pidfd, .events = POLLIN};
	int rc = qmp_call(u->qmp, "quit", NULL, NULL, e);

	if (rc < 0 && rc != -EPIPE)
		return rc;
	return poll(&p, 1, (int)timeout_ms) == 1
		       ? 0
		       : err_set(e, ETIMEDOUT, "QEMU was told to quit and did not end");
}

/* The guest is kept, whatever becomes of this. */
static void add_warn(struct err *warn, const struct err *e)
{
	struct err first = *warn;

	if (first.errnum == 0)
		*warn = *e;
	else
		err_set(warn, first.errnum, "%.150s... Moreover: %.150s", first.text, e->text);
}

static void put_back(struct qemu *u, struct vmm_word *word)
{
	struct err e;

	if (word->direct != NULL && qemu_set_direct(u, word->direct, true, &e) < 0)
		add_warn(&word->warn, &e);
}

static int resume(struct qemu *u, struct vmm_word *word, struct err *e)
{
	int rc = qmp_call(u->qmp, "cont", NULL, NULL, e);

	if (rc < 0)
		return rc;
	qemu_announce(u, &word->warn);
	put_back(u, word);
	return 0;
}

int vmm_qemu_once(const struct vmm_where *where, struct vmm_word *word, struct err *e)
{
	struct qemu u;
	int rc = qemu_open(&u, where, word->timeout_ms, -1, e);

	if (rc == 0)
		word->state = state_of(&u);
	if (rc == 0 && word->type == AGENT_RESUME)
		rc = resume(&u, word, e);
	else if (rc == 0 && word->type == AGENT_TRACK_STOP)
		put_back(&u, word);
	else if (rc == 0 && word->type == AGENT_END)
		rc = quit(&u, word->timeout_ms, e);
	qemu_close(&u);
	return rc;
}
