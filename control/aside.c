// SPDX-License-Identifier: BSD-3-Clause
// Work beside the control loop. The loop owns struct aside; the thread reads it and says by the
// eventfd that it will not touch it any more.

#include "aside.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct aside {
	void (*work)(void *arg);
	void (*done)(void *arg);
	void *arg;
	struct event *event; /* readable: the thread is done */
	int fd;
};

static void *run(void *arg)
{
	struct aside *a = arg;
	int fd = a->fd;

	a->work(a->arg);
	eventfd_write(fd, 1);
	return NULL;
}

static void aside_free(struct aside *a)
{
	if (a->event != NULL)
		event_free(a->event);
	close_fd(&a->fd);
	free(a);
}

static void on_done(evutil_socket_t fd, short what, void *arg)
{
	struct aside a = *(struct aside *)arg;

	(void)fd;
	(void)what;
	aside_free(arg);
	a.done(a.arg);
}

/* Signals are the control loop's. The stack has the default size: what libraries keep for each
 * thread counts towards it, and DPDK's is hundreds of KiB. */
static int start_thread(struct aside *a)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;
	int rc;

	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&thread, &attr, run, a);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return rc;
}

int aside_run(struct event_base *base, void (*work)(void *arg), void (*done)(void *arg), void *arg,
	struct err *e)
{
	struct aside *a = malloc(sizeof(*a));
	int rc;

	if (a == NULL)
		return err_set(e, ENOMEM, "no memory for a thread");
	*a = (struct aside){work, done, arg, NULL, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	a->event = a->fd < 0 ? NULL : event_new(base, a->fd, EV_READ, on_done, a);
	if (a->event == NULL || event_add(a->event, NULL) != 0) {
		aside_free(a);
		return err_set(e, ENOMEM, "no memory or descriptors for a thread");
	}
	rc = start_thread(a);
	if (rc != 0) {
		aside_free(a);
		return err_sys(e, rc, "cannot start a thread");
	}
	return 0;
}
