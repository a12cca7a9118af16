// SPDX-License-Identifier: BSD-3-Clause
// The daemon's TCP port. Run by the control loop. A connection is half open until its 32 bytes of
// preamble have come, and its TLS handshake is done where there is one; there are at most
// LISTEN_HALF_OPEN of these. A newcomer takes the place of the oldest of the address that has most:
// an honest peer sends its preamble at once, so a crowd of silent ones can't lock it out.
// Handshakes cost time that sessions need; so many begin in a second, and others wait their turn.

#include "listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "clock.h"
#include "stranger.h"

#define ACCEPT_AT_ONCE 16   /* a turn of the loop */
#define REST_S         1    /* no accept while the process is out of descriptors or memory */
#define SHAKES_PER_S   200u /* handshakes begun; each costs some 0.5 ms */
#define SHAKES_AT_ONCE 32u
#define SHAKE_WAIT_NS  (20 * NS_PER_MS)

struct half {
	TAILQ_ENTRY(half) next;
	struct listen *l;
	struct event *readable;
	int fd;
	uint64_t until_ns;
	size_t have;
	uint8_t buf[PREAMBLE_BYTES];
	struct preamble preamble;
	struct tls *tls; /* shakes hands; the preamble has come */
	bool waits;      /* to begin that */
	char peer[ADDRESS_TEXT];
};

struct listen {
	struct event_base *base;
	struct event *readable, *rest;
	struct tls_host *tls; /* NULL: TLS is spoken with nobody */
	int fd;
	uint16_t port;
	listen_fn fn;
	void *arg;
	unsigned nhalves;
	uint64_t shakes_ns;        /* the time up to which handshakes were begun, by their rate */
	TAILQ_HEAD(, half) halves; /* oldest first */
};

/* Forgets a half-open connection; what was passed on is no longer its own (-1, NULL). */
static void half_free(struct half *h)
{
	TAILQ_REMOVE(&h->l->halves, h, next);
	h->l->nhalves--;
	if (h->readable != NULL)
		event_free(h->readable);
	tls_free(h->tls);
	close_fd(&h->fd);
	free(h);
}

static void on_half(evutil_socket_t fd, short what, void *arg);

static void half_wait_ns(struct half *h, short what, uint64_t left)
{
	struct timeval tv = {.tv_sec = (time_t)(left / NS_PER_S),
		.tv_usec = (suseconds_t)(left % NS_PER_S / NS_PER_US)};

	event_assign(h->readable, h->l->base, h->fd, what, on_half, h);
	event_add(h->readable, &tv);
}

static void half_wait(struct half *h, short what)
{
	uint64_t now = clock_ns();

	half_wait_ns(h, what, h->until_ns > now ? h->until_ns - now : 0);
}

static void half_done(struct half *h)
{
	struct listen *l = h->l;
	struct preamble p = h->preamble;
	struct tls *tls = h->tls;
	int fd = h->fd;

	h->fd = -1;
	h->tls = NULL;
	half_free(h);
	l->fn(l->arg, fd, tls, &p);
}

/* A close with unread data makes the kernel drop what it still has to send: the alert. */
static void half_drain(struct half *h)
{
	char rest[4096];

	shutdown(h->fd, SHUT_WR);
	for (int i = 0; i < 16; i++)
		if (recv(h->fd, rest, sizeof(rest), MSG_DONTWAIT) <= 0)
			break;
}

static void half_shake(struct half *h)
{
	struct err e;
	int rc = tls_step(h->tls, &e);

	if (rc > 0) {
		half_wait(h, (short)rc);
	} else if (rc < 0) {
		stranger_log(LOG_WARN, "listen", "%s was refused: %s", h->peer, e.text);
		half_drain(h);
		half_free(h);
	} else {
		half_done(h);
	}
}

static bool may_shake(struct listen *l)
{
	const uint64_t each = NS_PER_S / SHAKES_PER_S, now = clock_ns();

	if (l->shakes_ns + SHAKES_AT_ONCE * each < now)
		l->shakes_ns = now - SHAKES_AT_ONCE * each;
	if (l->shakes_ns + each > now)
		return false;
	l->shakes_ns += each;
	return true;
}

static void half_begin(struct half *h)
{
	h->waits = !may_shake(h->l);
	if (h->waits)
		half_wait_ns(h, EV_TIMEOUT, SHAKE_WAIT_NS);
	else
		half_shake(h);
}

static void half_preamble(struct half *h)
{
	struct err e;

	if (preamble_decode(&h->preamble, h->buf, &e) < 0) {
		stranger_log(LOG_WARN, "listen", "%s: %s", h->peer, e.text);
		half_free(h);
		return;
	}
	if (h->preamble.kind != PREAMBLE_CONTROL_TLS) {
		half_done(h);
		return;
	}
	if (h->l->tls == NULL)
		err_set(&e, ENOTSUP,
			"it speaks TLS and this host is `insecure`: name keys here, or `insecure` "
			"there");
	else
		h->tls = tls_new(h->l->tls, h->fd, true, NULL, &e);
	if (h->tls == NULL) {
		stranger_log(LOG_WARN, "listen", "%s was refused: %s", h->peer, e.text);
		half_free(h);
		return;
	}
	h->waits = true;
	half_begin(h);
}

static void on_half(evutil_socket_t fd, short what, void *arg)
{
	struct half *h = arg;
	ssize_t n;

	if (h->waits && clock_ns() < h->until_ns) {
		half_begin(h);
		return;
	}
	if (!(what & (EV_READ | EV_WRITE))) {
		stranger_log(LOG_WARN, "listen", "%s: no %s within %d s, closed", h->peer,
			h->tls != NULL ? "TLS handshake" : "preamble", LISTEN_WAIT_S);
		half_free(h);
		return;
	}
	if (h->tls != NULL) {
		half_shake(h);
		return;
	}
	n = recv(fd, h->buf + h->have, sizeof(h->buf) - h->have, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		half_wait(h, EV_READ);
		return;
	}
	if (n <= 0) {
		stranger_log(
			LOG_DEBUG_, "listen", "%s: left before its preamble was whole", h->peer);
		half_free(h);
		return;
	}
	h->have += (size_t)n;
	if (h->have < sizeof(h->buf))
		half_wait(h, EV_READ);
	else
		half_preamble(h);
}

static bool same_host(const struct half *a, const struct half *b)
{
	const char *port = strrchr(a->peer, ':');

	return port != NULL && strncmp(a->peer, b->peer, (size_t)(port - a->peer) + 1) == 0;
}

/* Who has to go: the oldest of those that come from where most come from. */
static struct half *most_crowded(struct listen *l)
{
	struct half *h, *other, *found = NULL;
	unsigned most = 0;

	TAILQ_FOREACH(h, &l->halves, next)
	{
		unsigned n = 0;

		TAILQ_FOREACH(other, &l->halves, next)
		n += same_host(h, other);
		if (n > most) {
			most = n;
			found = h;
		}
	}
	return found;
}

static void half_new(struct listen *l, int fd)
{
	struct half *h = calloc(1, sizeof(*h));

	if (h == NULL) {
		close(fd);
		return;
	}
	if (l->nhalves >= LISTEN_HALF_OPEN) {
		struct half *oldest = most_crowded(l);

		stranger_log(LOG_WARN, "listen",
			"%s: %u connections are half open, this one was closed", oldest->peer,
			LISTEN_HALF_OPEN);
		half_free(oldest);
	}
	h->l = l;
	h->fd = fd;
	h->until_ns = clock_ns() + LISTEN_WAIT_S * NS_PER_S;
	address_of_peer(fd, h->peer);
	TAILQ_INSERT_TAIL(&l->halves, h, next);
	l->nhalves++;
	h->readable = event_new(l->base, fd, EV_READ, on_half, h);
	if (h->readable == NULL)
		half_free(h);
	else
		half_wait(h, EV_READ);
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
	const struct timeval rest = {.tv_sec = REST_S};
	struct listen *l = arg;

	(void)what;
	for (int i = 0; i < ACCEPT_AT_ONCE; i++) {
		int got = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (got >= 0) {
			half_new(l, got);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			log_error("listen",
				"cannot accept: %s; raise the limit of open files (ulimit -n)",
				strerror(errno));
			event_del(l->readable);
			event_add(l->rest, &rest);
		}
		return;
	}
}

static void on_rested(evutil_socket_t fd, short what, void *arg)
{
	struct listen *l = arg;

	(void)fd;
	(void)what;
	event_add(l->readable, NULL);
}

int listen_new(struct listen **out, struct event_base *base, const char *address, listen_fn fn,
	void *arg, struct err *e)
{
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof(ss);
	struct listen *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return err_set(e, ENOMEM, "listen: no memory");
	TAILQ_INIT(&l->halves);
	l->base = base;
	l->fn = fn;
	l->arg = arg;
	l->fd = listen_bind(address, e);
	if (l->fd < 0) {
		int rc = l->fd;

		free(l);
		return rc;
	}
	getsockname(l->fd, (struct sockaddr *)&ss, &len);
	/* The port stands at the same place in both families. */
	l->port = ntohs(((struct sockaddr_in *)&ss)->sin_port);
	l->readable = event_new(base, l->fd, EV_READ | EV_PERSIST, on_accept, l);
	l->rest = evtimer_new(base, on_rested, l);
	if (l->readable == NULL || l->rest == NULL || event_add(l->readable, NULL) != 0) {
		listen_free(l);
		return err_set(e, ENOMEM, "listen: no memory");
	}
	*out = l;
	return 0;
}

void listen_secure(struct listen *l, struct tls_host *tls)
{
	l->tls = tls;
}

void listen_free(struct listen *l)
{
	struct half *h;

	if (l == NULL)
		return;
	while ((h = TAILQ_FIRST(&l->halves)) != NULL)
		half_free(h);
	if (l->readable != NULL)
		event_free(l->readable);
	if (l->rest != NULL)
		event_free(l->rest);
	close_fd(&l->fd);
	free(l);
}

uint16_t listen_port(const struct listen *l)
{
	return l->port;
}
