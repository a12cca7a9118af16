// SPDX-License-Identifier: BSD-3-Clause
// What all VMM drivers share. Run by the control loop.

#include "vmm.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The rows of the port: how a driver is opened, and how it asks one thing without a session. */
static const struct {
	int (*open)(struct vmm **v, struct event_base *base, const struct vmm_where *where,
		unsigned deadline_ms, vmm_fn done, void *done_arg, struct err *e);
	int (*once)(const struct vmm_where *where, uint16_t type, uint64_t a, unsigned timeout_ms,
		unsigned *state, struct err *e);
} drivers[VMM_DRIVERS] = {
	[VMM_AGENT] = {vmm_agent_open, vmm_agent_once},
};

static int no_driver(const struct vmm_where *where, struct err *e)
{
	return err_set(
		e, ENOTSUP, "this Godwit has no driver for %s", vmm_driver_name(where->driver));
}

int vmm_open(struct vmm **v, struct event_base *base, const struct vmm_where *where,
	unsigned deadline_ms, vmm_fn done, void *done_arg, struct err *e)
{
	if (drivers[where->driver].open == NULL)
		return no_driver(where, e);
	return drivers[where->driver].open(v, base, where, deadline_ms, done, done_arg, e);
}

int vmm_once(const struct vmm_where *where, uint16_t type, uint64_t a, unsigned timeout_ms,
	unsigned *state, struct err *e)
{
	if (drivers[where->driver].once == NULL)
		return no_driver(where, e);
	return drivers[where->driver].once(where, type, a, timeout_ms, state, e);
}

void vmm_ask(struct vmm *v, uint16_t type, uint64_t a, uint64_t b, int fd, vmm_fn done, void *arg)
{
	v->ops->ask(v, type, a, b, fd, done, arg);
}

void vmm_close(struct vmm *v)
{
	if (v != NULL)
		v->ops->close(v);
}

bool vmm_ended(const struct vmm *v)
{
	struct pollfd p = {.fd = v->pidfd, .events = POLLIN};

	return v->pidfd >= 0 && poll(&p, 1, 0) == 1;
}

bool vmm_kill(struct vmm *v, unsigned wait_ms)
{
	struct pollfd p = {.fd = v->pidfd, .events = POLLIN};

	if (v->pidfd < 0)
		return false;
	if (syscall(SYS_pidfd_send_signal, v->pidfd, SIGKILL, NULL, 0) < 0 && errno == ESRCH)
		return true;
	return poll(&p, 1, (int)wait_ms) == 1;
}
