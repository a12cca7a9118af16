// SPDX-License-Identifier: BSD-3-Clause
// One word with a QEMU that has no session any more: recovery, and resolve. Run by the control
// loop, blocking for a short time that the caller gives.

#include "vmm.h"

#include "godwit.h"
#include "qemu.h"

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

int vmm_qemu_once(const struct vmm_where *where, uint16_t type, uint64_t a, unsigned timeout_ms,
	unsigned *state, struct err *e)
{
	struct qemu u;
	int rc = qemu_open(&u, where, timeout_ms, -1, e);

	(void)a;
	if (rc == 0 && state != NULL)
		*state = state_of(&u);
	if (rc == 0 && type == AGENT_RESUME)
		rc = qmp_call(u.qmp, "cont", NULL, NULL, e);
	else if (rc == 0 && type == AGENT_END)
		rc = quit(&u, timeout_ms, e);
	qemu_close(&u);
	return rc;
}
