// SPDX-License-Identifier: BSD-3-Clause
// What each request means for an unmodified QEMU. Run by its driver's thread, one request at a
// time. Invariant: before anything of QEMU's is changed, the keeper holds the commands that take it
// back; it loses them only when all is back, or when the guest is committed (law 6).

#include "vmm_qemu.h"

#include "agent_state.h"
#include "clock.h"
#include "qemu_disk.h"
#include "qemu_state.h"
#include "qemu_tune.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RETRY_MS 20
#define CONT_NS  (5 * NS_PER_S) /* QEMU refuses cont while it ends a migration */
#define END_MS   5000
/* The guest stands still: so long for an answer, or for more of the device state. It leaves QEMU at
 * memory's speed, after `stop` has written the disks out: a QEMU that works needs a part of a
 * second, and the rest is for a host that is short of CPU or has a slow disk. */
#define SAVE_MS 10000
/* Nobody sees how far QEMU is with it: for all of it, that is. */
#define LOAD_MS 30000

void vmm_qemu_event(void *arg, const char *event, const json_t *data)
{
	struct vmm_qemu *q = arg;

	(void)data;
	if (q->stopped && strcmp(event, "RESUME") == 0)
		q->woken = true;
}

/* What QEMU is to do if this process goes now. */
static int tell_keeper(struct vmm_qemu *q, struct err *e)
{
	json_t *list = json_array();
	int rc;

	if (q->stopped)
		json_array_append_new(list, json_pack("{s:s}", "execute", "migrate_cancel"));
	if (q->stopped && q->was_running) {
		json_array_append_new(list, json_pack("{s:s}", "execute", "cont"));
		json_array_append_new(list, json_pack("{s:s, s:o}", "execute", "announce-self",
						    "arguments", qemu_announcement()));
	}
	if (q->undo_tuning != NULL)
		json_array_extend(list, q->undo_tuning);
	if (q->undo_disks != NULL)
		json_array_extend(list, q->undo_disks);
	rc = q->keeper != NULL ? keeper_tell(q->keeper, list, e) : 0;
	json_decref(list);
	return rc;
}

int vmm_qemu_secure(struct vmm_qemu *q, struct err *e)
{
	int rc = q->keeper == NULL ? keeper_new(&q->keeper, qmp_fd(q->qemu.qmp), e) : 0;

	return rc == 0 ? tell_keeper(q, e) : rc;
}

bool vmm_qemu_leased(struct vmm_qemu *q)
{
	/* What a QEMU that answers refused, the keeper may be refused too. */
	return q->stopped && keeper_there(q->keeper) && qmp_poll(q->qemu.qmp, NULL) < 0;
}

static int not_woken(struct vmm_qemu *q, const char *status, struct err *e)
{
	int rc = qmp_poll(q->qemu.qmp, e);

	if (rc == 0)
		rc = qemu_ask_status(&q->qemu, e);
	if (rc < 0)
		return rc;
	if (q->woken || q->qemu.running)
		return err_set(e, EBUSY,
			"somebody resumed the guest while it was moved: end what else commands "
			"this QEMU, then try again");
	if (status != NULL && strcmp(q->qemu.status, status) != 0)
		return err_set(e, EIO, "QEMU is %s and not %s", q->qemu.status, status);
	return 0;
}

/* What changes QEMU's settings for device state, and what puts them back: where an attempt before
 * could not put them back, what that one found is what they were. */
static int tuning(struct vmm_qemu *q, bool incoming, json_t **change, struct err *e)
{
	json_t *undo = NULL;
	int rc = qemu_tuning(&q->qemu, incoming, change, &undo, e);

	if (q->undo_tuning == NULL)
		q->undo_tuning = undo;
	else
		json_decref(undo);
	return rc;
}

static int do_pause(struct vmm_qemu *q, struct vmm_answer *a, struct err *e)
{
	struct qemu *u = &q->qemu;
	json_t *change = NULL;
	int rc = qemu_ask_status(u, e);
	unsigned patience;
	uint64_t t0;

	if (rc == 0)
		rc = vmm_qemu_check_again(q, e);

	if (rc == 0 && !u->running && strcmp(u->status, "paused") != 0 &&
		strcmp(u->status, "prelaunch") != 0)
		rc = err_set(e, EBUSY, "the guest is neither running nor paused (%s)", u->status);
	if (rc == 0)
		rc = tuning(q, false, &change, e);
	if (rc == 0) {
		q->was_running = u->running;
		q->stopped = true;
		q->woken = false;
		rc = vmm_qemu_secure(q, e);
	}
	if (rc == 0)
		rc = qemu_run(u->qmp, change, e);
	json_decref(change);
	t0 = clock_ns();
	if (rc == 0 && q->was_running)
		rc = qmp_call(u->qmp, "stop", NULL, NULL, e);
	/* Not for `stop`, which writes the disks out: QEMU could resume nothing before that. */
	patience = qmp_patience(u->qmp, SAVE_MS);
	if (rc == 0)
		rc = not_woken(q, NULL, e);
	if (rc == 0)
		rc = qemu_check_nested(u, e);
	qmp_patience(u->qmp, patience);
	a->a = !q->was_running;
	a->b = clock_ns() - t0;
	return rc;
}

static int cont(struct vmm_qemu *q, struct err *warn, struct err *e)
{
	uint64_t deadline = clock_ns() + CONT_NS;
	int rc;

	while ((rc = qmp_call(q->qemu.qmp, "cont", NULL, NULL, e)) == -EREMOTEIO &&
		clock_ns() < deadline)
		poll(NULL, 0, RETRY_MS);
	if (rc == 0)
		qemu_announce(&q->qemu, warn);
	return rc;
}

/* Puts back what was tuned. What QEMU does not take now is tried again when the guest goes on, and
 * at the source by the keeper. */
static int untune(struct vmm_qemu *q, struct err *e)
{
	int rc = q->undo_tuning == NULL ? 0 : qemu_run(q->qemu.qmp, q->undo_tuning, e);

	if (rc < 0)
		return rc;
	json_decref(q->undo_tuning);
	q->undo_tuning = NULL;
	return 0;
}

void vmm_qemu_tidy(struct vmm_qemu *q)
{
	unsigned patience;

	if (!q->untunes)
		return;
	q->untunes = false;
	patience = qmp_patience(q->qemu.qmp, SAVE_MS);
	untune(q, NULL);
	qmp_patience(q->qemu.qmp, patience);
}

/* The source's guest goes on here. */
static int take_back(struct vmm_qemu *q, struct err *warn, struct err *e)
{
	int rc = qemu_cancel(&q->qemu, e);

	if (rc < 0)
		return rc;
	q->stopped = false;
	rc = q->was_running ? cont(q, warn, e) : 0;
	if (rc < 0) {
		q->stopped = true;
		return rc;
	}
	untune(q, NULL);
	/* After a fence there is none, and maybe nothing for one. Where it has ended: the same. */
	if (q->keeper != NULL || q->undo_disks != NULL)
		vmm_qemu_secure(q, NULL);
	return 0;
}

static int do_resume(struct vmm_qemu *q, struct vmm_qemu_ask *ask, struct err *e)
{
	struct err *warn = &ask->answer.warn, why, first;
	unsigned patience;
	int rc;

	if (q->state != GODWIT_LOADED)
		return take_back(q, warn, e);
	/* A guest that was paused at the source stays so. */
	rc = ask->b == 1 ? 0 : cont(q, warn, e);
	if (rc < 0)
		return rc;
	/* It runs, whatever becomes of this; the source waits for that word. */
	patience = qmp_patience(q->qemu.qmp, SAVE_MS);
	first = *warn;
	if (untune(q, &why) < 0)
		err_set(warn, why.errnum,
			"%.150s%sthe guest is here, and its QEMU's migration settings stay "
			"changed: "
			"%.150s",
			first.errnum != 0 ? first.text : "",
			first.errnum != 0 ? "... Moreover: " : "", why.text);
	qmp_patience(q->qemu.qmp, patience);
	return 0;
}

static int do_save(struct vmm_qemu *q, struct vmm_answer *a, struct err *e)
{
	unsigned patience = qmp_patience(q->qemu.qmp, SAVE_MS);
	int rc = not_woken(q, NULL, e);

	if (rc == 0)
		rc = qemu_save(&q->qemu, q->ask_fd, &a->fd, &a->a, e);
	/* Plugged in between the look before the pause and the state, in which it then is. */
	if (rc == 0)
		rc = qemu_check_plugged(&q->qemu, e);
	q->untunes = rc == 0;
	qmp_patience(q->qemu.qmp, patience);
	return rc;
}

static int do_load(struct vmm_qemu *q, const struct vmm_qemu_ask *ask, struct err *e)
{
	unsigned patience = qmp_patience(q->qemu.qmp, LOAD_MS);
	json_t *change = NULL;
	int rc = ask->fd < 0 ? err_set(e, EINVAL, "no file with device state came")
			     : qemu_check_plugged(&q->qemu, e);

	/* The source's were looked at again before its pause. */
	if (rc == 0)
		rc = qemu_check_disks_stay(&q->qemu, json_object_get(q->vmm.about, "disks"), e);
	if (rc == 0)
		rc = tuning(q, true, &change, e);
	if (rc == 0)
		rc = qemu_run(q->qemu.qmp, change, e);
	if (rc == 0)
		rc = qemu_load(&q->qemu, ask->fd, ask->a, q->ask_fd, e);
	/* Where QEMU refused, it waits for a guest as before. Else the guest is whole here; a
	 * setting that stays changed is no reason to refuse it. */
	q->untunes = rc == 0;
	if (rc == -EREMOTEIO)
		untune(q, NULL);
	qmp_patience(q->qemu.qmp, patience);
	json_decref(change);
	return rc;
}

/* From here on nothing resumes the guest by itself. What was changed is still known: the target may
 * refuse the guest. */
static int do_fence(struct vmm_qemu *q, struct err *e)
{
	unsigned patience = qmp_patience(q->qemu.qmp, SAVE_MS);
	int rc = not_woken(q, "postmigrate", e);

	qmp_patience(q->qemu.qmp, patience);
	if (rc < 0)
		return rc;
	q->stopped = false;
	/* Not told: the guest stands still, and one that hangs would be waited for. */
	keeper_end(q->keeper);
	q->keeper = NULL;
	return 0;
}

static int do_end(struct vmm_qemu *q, struct err *e)
{
	struct pollfd p = {.fd = q->qemu.pidfd, .events = POLLIN};
	int rc = qmp_call(q->qemu.qmp, "quit", NULL, NULL, e);

	/* Some versions close the monitor before they answer. */
	if (rc < 0 && rc != -EPIPE)
		return rc;
	if (poll(&p, 1, END_MS) != 1)
		return err_set(e, ETIMEDOUT, "QEMU (process %d) was told to quit and did not end",
			(int)q->qemu.pid);
	return 0;
}

static int carry_out(struct vmm_qemu *q, struct vmm_qemu_ask *ask, struct err *e)
{
	struct vmm_answer *a = &ask->answer;

	switch (ask->type) {
	case AGENT_TRACK_START:
		return vmm_qemu_track(q, a, e);
	case AGENT_TRACK_STOP:
		vmm_qemu_untrack(q, &a->warn);
		return 0;
	case AGENT_LOOK:
		return vmm_qemu_look(q, ask->a == 1, a, e);
	case AGENT_ARM:
		return vmm_qemu_arm(q, ask->a, ask->b, a, e);
	case AGENT_PUT_BACK:
		return vmm_qemu_put_back(q, ask->a, ask->b, e);
	case AGENT_PAUSE:
		return do_pause(q, a, e);
	case AGENT_RESUME:
		return do_resume(q, ask, e);
	case AGENT_THROTTLE:
		return err_set(e, ENOTSUP, "QEMU's vCPUs are not throttled from outside");
	case AGENT_SAVE:
		return do_save(q, a, e);
	case AGENT_LOAD:
		return do_load(q, ask, e);
	case AGENT_FENCE:
		return do_fence(q, e);
	case AGENT_END:
		return do_end(q, e);
	case AGENT_PING:
		return qemu_ask_status(&q->qemu, e);
	default:
		return err_set(e, EPROTO, "there is no request of type %u", ask->type);
	}
}

int vmm_qemu_do(struct vmm_qemu *q, struct vmm_qemu_ask *ask, struct err *e)
{
	enum godwit_state next = q->state;
	int rc = 0;

	if (ask->type == AGENT_HELLO)
		return vmm_qemu_hello(q, e);
	switch (agent_state_check(q->state, ask->type, ask->a, &next, e)) {
	case AGENT_REFUSE:
		return -e->errnum;
	case AGENT_SAME:
		break;
	case AGENT_DO:
		/* What a failed pause began is taken back by RESUME, which must not be refused. */
		if (ask->type == AGENT_PAUSE)
			q->state = next;
		rc = carry_out(q, ask, e);
		if (rc == 0)
			q->state = next;
		break;
	}
	if (ask->type == AGENT_PING || ask->type == AGENT_LOAD)
		ask->answer.a = q->state;
	return rc;
}

void vmm_qemu_leave(struct vmm_qemu *q)
{
	/* A guest that came whole and was not taken over must never run: it runs elsewhere. */
	if (q->state == GODWIT_LOADED && q->qemu.pidfd >= 0)
		syscall(SYS_pidfd_send_signal, q->qemu.pidfd, SIGKILL, NULL, 0);
	vmm_qemu_drop_tracker(q);
	qemu_close(&q->qemu);
	/* Now the monitor is the keeper's alone. */
	keeper_free(q->keeper);
	json_decref(q->undo_tuning);
	json_decref(q->undo_disks);
}
