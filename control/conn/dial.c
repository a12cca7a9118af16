// SPDX-License-Identifier: BSD-3-Clause
// Connecting to another daemon without blocking. Run by the control loop. The addresses of a name
// are tried one after the other, within one deadline for all; done() is called once, never from
// within dial_new().

#include "listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "clock.h"
#include "resolve.h"

struct dial {
	struct event_base *base;
	struct event *step; /* the socket is writable, or it is time for the next address */
	struct event *deadline;
	struct resolve *resolve;
	struct addrinfo *list, *at; /* at: the address being tried, or to be tried next */
	int fd;
	uint64_t until_ns;
	unsigned deadline_ms;
	uint8_t preamble[PREAMBLE_BYTES];
	struct tls_host *secure;        /* NULL: no TLS */
	struct tls *tls;                /* shakes hands */
	char peer[ADDRESS_HOST];        /* whose certificate is wanted */
	char address[ADDRESS_HOST + 8]; /* as it was asked for */
	struct err why;                 /* of the last address tried */
	dial_fn done;
	void *arg;
};

static void try_next(struct dial *d);

void dial_cancel(struct dial *d)
{
	if (d == NULL)
		return;
	resolve_cancel(d->resolve);
	if (d->step != NULL)
		event_free(d->step);
	if (d->deadline != NULL)
		event_free(d->deadline);
	if (d->list != NULL)
		freeaddrinfo(d->list);
	tls_free(d->tls);
	close_fd(&d->fd);
	free(d);
}

static void finish(struct dial *d, const struct err *why)
{
	dial_fn done = d->done;
	void *arg = d->arg;
	struct tls *tls = NULL;
	struct err copy = {0};
	int fd = -1;

	if (why != NULL) {
		copy = *why;
	} else {
		fd = d->fd;
		tls = d->tls;
		d->fd = -1;
		d->tls = NULL;
	}
	dial_cancel(d);
	done(arg, fd, tls, &copy);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct dial *d = arg;
	struct err e;

	(void)fd;
	(void)what;
	err_set(&e, ETIMEDOUT,
		"no answer from %s within %u ms: check the address, the route and the firewall",
		d->address, d->deadline_ms);
	finish(d, &e);
}

static void note_failure(struct dial *d, int errnum)
{
	if (errnum == ECONNREFUSED)
		err_set(&d->why, errnum,
			"cannot connect to %s: nobody listens there; start godwitd on that host, "
			"or give "
			"the port that it listens on",
			d->address);
	else
		err_sys(&d->why, errnum, "cannot connect to %s", d->address);
}

static void on_step(evutil_socket_t fd, short what, void *arg);

/* A side that is refused is not asked again at another address. */
static void shake(struct dial *d)
{
	struct err why, e;
	int rc = tls_step(d->tls, &why);

	if (rc == 0) {
		finish(d, NULL);
	} else if (rc < 0) {
		err_set(&e, why.errnum, "%s: %s", d->address, why.text);
		finish(d, &e);
	} else {
		event_free(d->step);
		d->step = event_new(d->base, d->fd, (short)rc, on_step, d);
		if (d->step != NULL && event_add(d->step, NULL) == 0)
			return;
		err_set(&e, ENOMEM, "dial: no memory");
		finish(d, &e);
	}
}

static void greeted(struct dial *d)
{
	struct err e;

	if (d->secure == NULL) {
		finish(d, NULL);
		return;
	}
	d->tls = tls_new(d->secure, d->fd, false, d->peer, &e);
	if (d->tls == NULL)
		finish(d, &e);
	else
		shake(d);
}

/* The preamble always fits the empty buffer of a fresh connection. */
static void connected(struct dial *d)
{
	int on = 1;

	setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (send(d->fd, d->preamble, sizeof(d->preamble), MSG_NOSIGNAL) == PREAMBLE_BYTES) {
		greeted(d);
		return;
	}
	note_failure(d, errno);
	close_fd(&d->fd);
	try_next(d);
}

static void on_step(evutil_socket_t fd, short what, void *arg)
{
	struct dial *d = arg;
	int errnum = 0;
	socklen_t len = sizeof(errnum);

	(void)fd;
	if (d->tls != NULL) {
		shake(d);
		return;
	}
	if (d->fd < 0) {
		try_next(d);
		return;
	}
	if (!(what & EV_WRITE))
		errnum = ETIMEDOUT;
	else if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) != 0)
		errnum = errno;
	if (errnum == 0) {
		connected(d);
		return;
	}
	note_failure(d, errnum);
	close_fd(&d->fd);
	try_next(d);
}

/* What is left of the deadline is shared out among the addresses that are left. */
static struct timeval share(const struct dial *d)
{
	uint64_t now = clock_ns(), left = d->until_ns > now ? d->until_ns - now : 0;
	unsigned n = 1;

	for (const struct addrinfo *ai = d->at; ai != NULL; ai = ai->ai_next)
		n++;
	left /= n;
	return (struct timeval){.tv_sec = (time_t)(left / NS_PER_S),
		.tv_usec = (suseconds_t)(left % NS_PER_S / NS_PER_US)};
}

static void try_next(struct dial *d)
{
	while (d->at != NULL) {
		const struct addrinfo *ai = d->at;
		struct timeval wait;

		d->at = ai->ai_next;
		d->fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (d->fd >= 0 && (connect(d->fd, ai->ai_addr, ai->ai_addrlen) == 0 ||
					  errno == EINPROGRESS)) {
			event_free(d->step);
			d->step = event_new(d->base, d->fd, EV_WRITE, on_step, d);
			wait = share(d);
			if (d->step != NULL && event_add(d->step, d->at ? &wait : NULL) == 0)
				return;
			errno = ENOMEM;
		}
		note_failure(d, errno);
		close_fd(&d->fd);
		if (d->step == NULL)
			break;
	}
	finish(d, &d->why);
}

static void on_resolved(void *arg, struct addrinfo *list, const struct err *why)
{
	struct dial *d = arg;

	d->resolve = NULL;
	if (list == NULL) {
		finish(d, why);
		return;
	}
	d->list = d->at = list;
	try_next(d);
}

/* Finds the addresses: at once for a numeric one, later for a name. */
static int begin(struct dial *d, struct err *e)
{
	const struct addrinfo numeric = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
	char host[ADDRESS_HOST], port[6];
	int rc = address_split(d->address, host, port, e);

	if (rc < 0)
		return rc;
	if (host[0] == '\0')
		return err_set(e, EINVAL, "address '%s': the host is missing, write HOST:PORT",
			d->address);
	if (getaddrinfo(host, port, &numeric, &d->list) == 0) {
		d->at = d->list;
		event_active(d->step, EV_TIMEOUT, 0);
		return 0;
	}
	return resolve_new(&d->resolve, d->base, host, port, on_resolved, d, e);
}

struct dial *dial_new(struct event_base *base, const char *address, const struct preamble *p,
	unsigned deadline_ms, dial_fn done, void *arg, struct err *e)
{
	const struct timeval tv = {
		.tv_sec = deadline_ms / 1000, .tv_usec = (suseconds_t)(deadline_ms % 1000) * 1000};
	struct dial *d = calloc(1, sizeof(*d));

	if (d == NULL) {
		err_set(e, ENOMEM, "dial: no memory");
		return NULL;
	}
	d->base = base;
	d->fd = -1;
	d->deadline_ms = deadline_ms;
	d->until_ns = clock_ns() + deadline_ms * NS_PER_MS;
	d->done = done;
	d->arg = arg;
	preamble_encode(p, d->preamble);
	snprintf(d->address, sizeof(d->address), "%s", address);
	d->step = event_new(base, -1, 0, on_step, d);
	d->deadline = evtimer_new(base, on_deadline, d);
	if (d->step == NULL || d->deadline == NULL || event_add(d->deadline, &tv) != 0) {
		err_set(e, ENOMEM, "dial: no memory");
		dial_cancel(d);
		return NULL;
	}
	if (begin(d, e) < 0) {
		dial_cancel(d);
		return NULL;
	}
	return d;
}

void dial_secure(struct dial *d, struct tls_host *tls, const char *peer)
{
	char host[ADDRESS_HOST], port[6];

	if (peer[0] == '\0' && address_split(d->address, host, port, NULL) == 0)
		peer = host;
	snprintf(d->peer, sizeof(d->peer), "%s", peer);
	d->secure = tls;
}
