// SPDX-License-Identifier: BSD-3-Clause
// Host names to addresses. The helper thread owns struct work until it has written to the eventfd
// or found that nobody waits; the loop owns struct resolve. Each holds one of work's two
// references.

#include "resolve.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "address.h"

struct work {
	atomic_uint refs;
	int done_fd; /* eventfd: written by the thread once list and status are final */
	char host[ADDRESS_HOST];
	char port[6];
	struct addrinfo *list;
	int status; /* of getaddrinfo() */
};

struct resolve {
	struct work *work;
	struct event *done;
	resolve_fn fn;
	void *arg;
};

static void work_put(struct work *w)
{
	if (atomic_fetch_sub(&w->refs, 1) != 1)
		return;
	if (w->list != NULL)
		freeaddrinfo(w->list);
	close_fd(&w->done_fd);
	free(w);
}

static void *look_up(void *arg)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
	struct work *w = arg;

	w->status = getaddrinfo(w->host, w->port, &hints, &w->list);
	eventfd_write(w->done_fd, 1);
	work_put(w);
	return NULL;
}

/* The stack has the default size: what libraries keep for each thread counts towards it, and DPDK's
 * is hundreds of KiB. */
static int start_thread(struct work *w)
{
	pthread_attr_t attr;
	pthread_t thread;
	int rc;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	rc = pthread_create(&thread, &attr, look_up, w);
	pthread_attr_destroy(&attr);
	return rc;
}

static void on_done(evutil_socket_t fd, short what, void *arg)
{
	struct resolve *r = arg;
	struct addrinfo *list = r->work->list;
	resolve_fn fn = r->fn;
	void *fn_arg = r->arg;
	struct err why = {0};

	(void)fd;
	(void)what;
	r->work->list = NULL;
	if (list == NULL)
		err_set(&why, EADDRNOTAVAIL,
			"cannot find the address of '%.200s': %s; check the name, or write the "
			"address",
			r->work->host, gai_strerror(r->work->status));
	resolve_cancel(r);
	fn(fn_arg, list, &why);
}

int resolve_new(struct resolve **out, struct event_base *base, const char *host, const char *port,
	resolve_fn fn, void *arg, struct err *e)
{
	struct resolve *r = calloc(1, sizeof(*r));
	struct work *w = calloc(1, sizeof(*w));

	if (r == NULL || w == NULL) {
		free(r);
		free(w);
		return err_set(e, ENOMEM, "resolve: no memory");
	}
	snprintf(w->host, sizeof(w->host), "%s", host);
	snprintf(w->port, sizeof(w->port), "%s", port);
	atomic_init(&w->refs, 1);
	w->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->work = w;
	r->fn = fn;
	r->arg = arg;
	r->done = w->done_fd < 0 ? NULL : event_new(base, w->done_fd, EV_READ, on_done, r);
	if (r->done == NULL || event_add(r->done, NULL) != 0) {
		resolve_cancel(r);
		return err_set(e, ENOMEM, "resolve: no memory or descriptors");
	}
	atomic_fetch_add(&w->refs, 1);
	if (start_thread(w) != 0) {
		work_put(w);
		resolve_cancel(r);
		return err_set(e, EAGAIN, "resolve: cannot start a thread");
	}
	*out = r;
	return 0;
}

void resolve_cancel(struct resolve *r)
{
	if (r == NULL)
		return;
	if (r->done != NULL)
		event_free(r->done);
	work_put(r->work);
	free(r);
}
