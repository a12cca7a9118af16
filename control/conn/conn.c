// SPDX-License-Identifier: BSD-3-Clause
// A connection that carries messages, on a libevent bufferevent. Run by the control loop only.
// Whatever the other side sends ends at most this connection. Callbacks may free the connection:
// it is then only marked, and freed when the outermost of its own functions returns.

#include "conn.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"

/* A dead peer is noticed by keep-alive in about 20 s, and by unacknowledged data in 15 s. */
#define KEEP_IDLE_S     10
#define KEEP_INTERVAL_S 5
#define KEEP_COUNT      2
#define UNACKED_MS      15000

struct conn {
	struct bufferevent *bev;
	struct tls *tls;    /* NULL: plain text */
	struct event *kick; /* work that may not be done where it was found: in a caller's call */
	int fd;
	const struct conn_ops *ops;
	void *arg;
	unsigned depth; /* of our functions that run and may call back */
	bool freed;     /* conn_free() was called at depth > 0 */
	bool broken;    /* no reading, no sending; why says the reason */
	bool told;      /* closed() was called */
	struct err why;
	char peer[ADDRESS_TEXT];
};

static void conn_destroy(struct conn *c)
{
	struct evbuffer *out;
	char rest[4096];

	if (c->bev != NULL) {
		/* What is queued goes out as far as the kernel takes it. What has come is thrown
		 * away, for a close with unread data makes the kernel drop what it still has to
		 * send. */
		out = bufferevent_get_output(c->bev);
		evbuffer_unfreeze(out, 1);
		if (c->tls != NULL)
			tls_flush(c->tls, out);
		else
			while (evbuffer_get_length(out) > 0 && evbuffer_write(out, c->fd) > 0)
				;
		for (int i = 0; i < 64; i++)
			if (recv(c->fd, rest, sizeof(rest), MSG_DONTWAIT) <= 0)
				break;
		/* Within a callback of its own it is freed later: it must not look at fd then. */
		bufferevent_disable(c->bev, EV_READ | EV_WRITE);
		bufferevent_free(c->bev);
		close(c->fd);
	}
	tls_free(c->tls);
	if (c->kick != NULL)
		event_free(c->kick);
	free(c);
}

static void leave(struct conn *c)
{
	if (--c->depth == 0 && c->freed)
		conn_destroy(c);
}

/* The connection is over; closed() is called from the loop, never from here. */
static void conn_break(struct conn *c, int errnum, const char *text)
{
	if (c->broken)
		return;
	c->broken = true;
	err_set(&c->why, errnum, "connection with %s: %s", c->peer, text);
	bufferevent_disable(c->bev, EV_READ | EV_WRITE);
	event_active(c->kick, EV_TIMEOUT, 0);
}

static void deliver(struct conn *c, enum conn_kind kind, size_t total)
{
	struct evbuffer *in = bufferevent_get_input(c->bev);
	const uint8_t *data = evbuffer_pullup(in, (ev_ssize_t)total);
	struct err e;
	json_t *msg;

	if (data == NULL) {
		conn_break(c, ENOMEM, "no memory for a message");
		return;
	}
	if (kind == CONN_BLOB) {
		c->ops->blob(c->arg, data + CONN_HDR_BYTES, total - CONN_HDR_BYTES);
		evbuffer_drain(in, total);
		return;
	}
	msg = conn_parse_json(data + CONN_HDR_BYTES, total - CONN_HDR_BYTES, &e);
	evbuffer_drain(in, total);
	if (msg == NULL) {
		conn_break(c, e.errnum, e.text);
		return;
	}
	c->ops->json(c->arg, msg);
	json_decref(msg);
}

/* Reads until so many bytes are there, and no more than a message of them. Over TLS the end is that
 * of a record: what libevent leaves inside of OpenSSL it finds only when more comes. */
static void wait_for(struct conn *c, size_t bytes)
{
	bufferevent_setwatermark(c->bev, EV_READ, bytes, c->tls != NULL ? 0 : CONN_MSG_BYTES);
}

/* One message, if a whole one is there. The bounds are checked as soon as the header is. */
static bool take_message(struct conn *c)
{
	struct evbuffer *in = bufferevent_get_input(c->bev);
	size_t have = evbuffer_get_length(in);
	uint8_t hdr[CONN_HDR_BYTES];
	enum conn_kind kind = CONN_JSON;
	size_t total;
	struct err e;

	if (evbuffer_copyout(in, hdr, sizeof(hdr)) < (ev_ssize_t)sizeof(hdr)) {
		wait_for(c, CONN_HDR_BYTES);
		return false;
	}
	if (conn_parse(hdr, sizeof(hdr), &kind, &e) < 0) {
		conn_break(c, e.errnum, e.text);
		return false;
	}
	if (kind == CONN_BLOB && c->ops->blob == NULL) {
		conn_break(c, EPROTO, "a blob came where only JSON may");
		return false;
	}
	total = CONN_HDR_BYTES + conn_body_bytes(hdr);
	if (have < total) {
		wait_for(c, total);
		return false;
	}
	deliver(c, kind, total);
	return true;
}

static void read_all(struct conn *c)
{
	c->depth++;
	while (!c->freed && !c->broken && c->ops != NULL && take_message(c))
		;
	leave(c);
}

static void on_read(struct bufferevent *bev, void *arg)
{
	(void)bev;
	read_all(arg);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct conn *c = arg;
	int errnum = EVUTIL_SOCKET_ERROR();
	struct err e;

	if ((what & BEV_EVENT_ERROR) && c->tls != NULL) {
		tls_why(c->tls, bev, &e);
		conn_break(c, e.errnum, e.text);
	} else if (what & BEV_EVENT_EOF)
		conn_break(c, ECONNRESET, "the other side closed it");
	else if (what & BEV_EVENT_ERROR)
		conn_break(c, errnum ? errnum : EIO, strerror(errnum ? errnum : EIO));
	else if (what & BEV_EVENT_TIMEOUT)
		conn_break(c, ETIMEDOUT, "the other side does not answer");
}

static void on_kick(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;

	(void)fd;
	(void)what;
	c->depth++;
	if (!c->broken) {
		read_all(c);
	} else if (c->ops != NULL && !c->told) {
		c->told = true;
		c->ops->closed(c->arg, &c->why);
	}
	leave(c);
}

static void set_keepalive(int fd)
{
	int on = 1, idle = KEEP_IDLE_S, interval = KEEP_INTERVAL_S, count = KEEP_COUNT;
	unsigned unacked = UNACKED_MS;

	/* None is vital; a unix socket refuses all of them. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacked, sizeof(unacked));
}

struct conn *conn_new(struct event_base *base, int fd, struct tls *tls, struct err *e)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		tls_free(tls);
		close(fd);
		err_set(e, ENOMEM, "no memory for a connection");
		return NULL;
	}
	c->fd = fd;
	c->tls = tls;
	address_of_peer(fd, c->peer);
	set_keepalive(fd);
	evutil_make_socket_nonblocking(fd);
	c->kick = event_new(base, -1, 0, on_kick, c);
	c->bev = tls != NULL ? tls_bufferevent(tls, base) : bufferevent_socket_new(base, fd, 0);
	if (c->kick == NULL || c->bev == NULL) {
		if (c->bev == NULL)
			close(fd);
		conn_destroy(c);
		err_set(e, ENOMEM, "no memory for a connection");
		return NULL;
	}
	bufferevent_setcb(c->bev, on_read, NULL, on_event, c);
	wait_for(c, CONN_HDR_BYTES);
	bufferevent_disable(c->bev, EV_READ);
	return c;
}

void conn_own(struct conn *c, const struct conn_ops *ops, void *arg)
{
	c->ops = ops;
	c->arg = arg;
	if (ops == NULL) {
		bufferevent_disable(c->bev, EV_READ);
		return;
	}
	if (!c->broken)
		bufferevent_enable(c->bev, EV_READ);
	/* What came, or broke, while nobody owned it; if the reader itself calls us, it goes on. */
	if (c->broken || (c->depth == 0 && evbuffer_get_length(bufferevent_get_input(c->bev)) > 0))
		event_active(c->kick, EV_TIMEOUT, 0);
}

void conn_free(struct conn *c)
{
	if (c == NULL || c->freed)
		return;
	c->freed = true;
	if (c->depth == 0)
		conn_destroy(c);
}

static int send_message(struct conn *c, enum conn_kind kind, const void *data, size_t bytes)
{
	struct evbuffer *out = bufferevent_get_output(c->bev);
	size_t most = kind == CONN_JSON ? CONN_JSON_BYTES : CONN_BLOB_BYTES;
	uint8_t hdr[CONN_HDR_BYTES];

	if (c->broken || c->freed)
		return -EPIPE;
	if (bytes > most) {
		conn_break(c, EMSGSIZE, "a message to it would be longer than allowed");
		return -EMSGSIZE;
	}
	if (evbuffer_get_length(out) + CONN_HDR_BYTES + bytes > CONN_OUT_BYTES) {
		conn_break(c, ENOBUFS, "the other side reads too slowly");
		return -ENOBUFS;
	}
	conn_put_header(hdr, kind, bytes);
	if (evbuffer_expand(out, CONN_HDR_BYTES + bytes) != 0 ||
		evbuffer_add(out, hdr, sizeof(hdr)) != 0 || evbuffer_add(out, data, bytes) != 0) {
		conn_break(c, ENOMEM, "no memory for a message");
		return -ENOMEM;
	}
	return 0;
}

int conn_send(struct conn *c, json_t *msg)
{
	_cleanup_(free_ptr) char *text = msg ? json_dumps(msg, JSON_COMPACT) : NULL;

	json_decref(msg);
	if (text == NULL) {
		if (!c->broken && !c->freed)
			conn_break(c, ENOMEM, "a message to it could not be made");
		return -ENOMEM;
	}
	return send_message(c, CONN_JSON, text, strlen(text));
}

int conn_send_blob(struct conn *c, const void *data, size_t bytes)
{
	return send_message(c, CONN_BLOB, data, bytes);
}

size_t conn_backlog(const struct conn *c)
{
	return evbuffer_get_length(bufferevent_get_output(c->bev));
}

struct tls *conn_tls(const struct conn *c)
{
	return c->tls;
}

int conn_fd(const struct conn *c)
{
	return c->fd;
}

const char *conn_peer_name(const struct conn *c)
{
	return c->peer;
}
