// SPDX-License-Identifier: BSD-3-Clause
// What all VMM drivers share. Run by the control loop.

#include "vmm.h"

#include "vcpus.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The rows of the port: how a driver is opened, and how it asks one thing without a session. */
static const struct {
	int (*open)(struct vmm **v, struct event_base *base, const struct vmm_where *where,
		unsigned deadline_ms, vmm_fn done, void *done_arg, struct err *e);
	int (*once)(const struct vmm_where *where, struct vmm_word *word, struct err *e);
} drivers[VMM_DRIVERS] = {
	[VMM_AGENT] = {vmm_agent_open, vmm_agent_once},
	[VMM_QEMU] = {vmm_qemu_open, vmm_qemu_once},
};

int vmm_open(struct vmm **v, struct event_base *base, const struct vmm_where *where,
	unsigned deadline_ms, vmm_fn done, void *done_arg, struct err *e)
{
	return drivers[where->driver].open(v, base, where, deadline_ms, done, done_arg, e);
}

int vmm_once(const struct vmm_where *where, struct vmm_word *word, struct err *e)
{
	return drivers[where->driver].once(where, word, e);
}

void vmm_ask(struct vmm *v, uint16_t type, uint64_t a, uint64_t b, int fd, vmm_fn done, void *arg)
{
	v->ops->ask(v, type, a, b, fd, done, arg);
}

const char *vmm_gives_back(const struct vmm *v)
{
	if ((v->hint_flags & AGENT_HINT_KEEPS) != 0)
		return NULL;
	return v->about != NULL ? "the guest has a balloon, so QEMU may give memory back unseen"
				: "its VMM does not say that it gives no memory back "
				  "(godwit_keeps_memory)";
}

void vmm_close(struct vmm *v)
{
	if (v != NULL)
		v->ops->close(v);
}

void vmm_find_vcpus(struct vmm *v)
{
	pid_t tids[VCPUS_MOST];
	unsigned n = v->pid > 0 ? vcpus_named(v->pid, tids, VCPUS_MOST) : 0;

	v->vcpus = n > 0 ? calloc(n, sizeof(*v->vcpus)) : NULL;
	if (v->vcpus != NULL)
		memcpy(v->vcpus, tids, n * sizeof(*v->vcpus));
	v->nvcpus = v->vcpus != NULL ? n : 0;
}

bool vmm_ended(const struct vmm *v)
{
	struct pollfd p = {.fd = v->pidfd, .events = POLLIN};

	return v->pidfd >= 0 && poll(&p, 1, 0) == 1;
}

struct vmm_death {
	struct event *event; /* its end, or the deadline */
	int pidfd;
	void (*done)(void *arg, bool ended);
	void *arg;
};

static void on_death(evutil_socket_t fd, short what, void *arg)
{
	struct vmm_death death = *(struct vmm_death *)arg;

	(void)fd;
	vmm_death_cancel(arg);
	death.done(death.arg, (what & EV_READ) != 0);
}

struct vmm_death *vmm_kill(struct vmm *v, struct event_base *base, unsigned deadline_ms,
	void (*done)(void *arg, bool ended), void *arg)
{
	const struct timeval tv = {deadline_ms / 1000, (deadline_ms % 1000) * 1000};
	struct vmm_death *d = calloc(1, sizeof(*d));

	if (d == NULL)
		abort(); /* the event loop itself can't go on without memory */
	d->done = done;
	d->arg = arg;
	/* Its own: the driver may be closed meanwhile. */
	d->pidfd = v->pidfd < 0 ? -1 : fcntl(v->pidfd, F_DUPFD_CLOEXEC, 0);
	d->event = event_new(base, d->pidfd, d->pidfd < 0 ? 0 : EV_READ, on_death, d);
	if (d->event == NULL)
		abort();
	if (d->pidfd < 0)
		event_active(d->event, EV_TIMEOUT, 0);
	else
		event_add(d->event, &tv);
	if (d->pidfd >= 0)
		(void)syscall(SYS_pidfd_send_signal, d->pidfd, SIGKILL, NULL, 0);
	return d;
}

void vmm_death_cancel(struct vmm_death *d)
{
	if (d == NULL)
		return;
	event_free(d->event);
	close_fd(&d->pidfd);
	free(d);
}
