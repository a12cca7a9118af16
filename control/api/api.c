// SPDX-License-Identifier: BSD-3-Clause
// The API's clients: what they ask, what they are told. Run by the control loop. A client streams
// at most one session, reads as slowly as it likes within bounds, and can end nothing by leaving.
// One descriptor is kept back, so that with none left one client at a time is still served.

#include "api.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "api_socket.h"
#include "conn.h"
#include "log.h"

struct client {
	LIST_ENTRY(client) next;
	struct api *api;
	struct conn *conn;
	struct session_watch *watch; /* what it streams, or NULL */
	enum api_right right;
	struct later *later; /* an answer that is still to come, or NULL */
};

/* Outlives a client that leaves before its answer. */
struct later {
	struct client *client; /* NULL: it has left */
};

struct api {
	struct api_config config;
	struct api_socket socket;
	struct event *readable, *rest;
	int spare; /* a descriptor kept back; -1: a client has its place */
	unsigned nclients;
	LIST_HEAD(, client) clients;
};

/* When the process has no descriptor left, people must still be able to ask why, and to cancel. */
static void take_spare(struct api *a)
{
	if (a->spare < 0)
		a->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void client_free(struct client *c)
{
	struct api *a = c->api;

	LIST_REMOVE(c, next);
	a->nclients--;
	session_unwatch(c->watch);
	if (c->later != NULL)
		c->later->client = NULL;
	conn_free(c->conn);
	free(c);
	take_spare(a);
}

/* One message holds CONN_JSON_BYTES. What is told of each pass is the only part without a bound. */
static json_t *cut_to_fit(json_t *event)
{
	json_t *copy;

	if (json_dumpb(event, NULL, 0, JSON_COMPACT) <= CONN_JSON_BYTES)
		return json_incref(event);
	copy = json_deep_copy(event);
	json_object_del(json_object_get(copy, "report"), "passes_detail");
	json_object_del(
		json_object_get(json_object_get(copy, "session"), "report"), "passes_detail");
	return copy;
}

static void on_event(void *arg, json_t *event)
{
	const char *what = json_string_value(json_object_get(event, "event"));
	struct client *c = arg;
	size_t waits = conn_backlog(c->conn);
	bool end = what != NULL && strcmp(what, "end") == 0;

	if (waits > API_BACKLOG_BYTES && what != NULL &&
		(strcmp(what, "progress") == 0 || strcmp(what, "placing") == 0))
		return;
	if (waits > API_DROP_BYTES) {
		log_warn("api", "%s reads too slowly, it is told no more of this session",
			conn_peer_name(c->conn));
		end = true;
	} else {
		conn_send(c->conn, end ? cut_to_fit(event) : json_incref(event));
	}
	if (end) {
		session_unwatch(c->watch);
		c->watch = NULL;
	}
}

static const char *errno_name(int errnum)
{
	const char *name = strerrorname_np(errnum);

	return name ? name : "EIO";
}

static int check_right(const struct client *c, const json_t *msg, struct err *e)
{
	const char *what = json_string_value(json_object_get(msg, "do"));

	if (c->right == API_ALL || what == NULL || api_rights_reads(what))
		return 0;
	log_warn("api", "%s may not %.40s", conn_peer_name(c->conn), what);
	return err_set(e, EACCES,
		"you may ask how migrations stand, and no more: %.40s is for the group of "
		"api-group",
		what);
}

static const struct conn_ops client_ops;

/* reply's reference is taken. */
static void answer(struct client *c, json_t *reply, int rc, const struct err *e)
{
	json_object_set_new(reply, "ok", json_boolean(rc == 0));
	if (rc < 0) {
		json_object_set_new(reply, "error", json_string(e->text));
		json_object_set_new(reply, "errno", json_string(errno_name(-rc)));
		log_debug("api", "%s: %s", conn_peer_name(c->conn), e->text);
	}
	conn_send(c->conn, cut_to_fit(reply));
	json_decref(reply);
}

static void on_later(void *arg, int rc, json_t *tell, const struct err *why)
{
	struct later *l = arg;
	struct client *c = l->client;
	json_t *reply;

	free(l);
	if (c == NULL)
		return;
	c->later = NULL;
	reply = json_object();
	if (tell != NULL)
		json_object_set(reply, "tell", tell);
	answer(c, reply, rc, why);
	conn_own(c->conn, &client_ops, c);
}

static void on_request(void *arg, json_t *msg)
{
	struct client *c = arg;
	struct later *l = calloc(1, sizeof(*l));
	struct api_call call = {.config = &c->api->config,
		.reply = json_object(),
		.later = on_later,
		.later_arg = l};
	struct err e = {0};
	int rc;

	if (l != NULL)
		l->client = c;
	c->later = l;
	rc = l == NULL ? err_set(&e, ENOMEM, "no memory for a request") : check_right(c, msg, &e);
	if (rc == 0)
		rc = api_call(&call, msg, c->watch != NULL, &e);
	if (rc == API_LATER) {
		json_decref(call.reply);
		/* What it asks next waits, so that its answers come in order. */
		if (c->later != NULL)
			conn_own(c->conn, NULL, NULL);
		return;
	}
	c->later = NULL;
	free(l);
	if (rc == 0 && call.stream != NULL)
		json_object_set_new(call.reply, "name", json_string(session_name(call.stream)));
	answer(c, call.reply, rc, &e);
	if (rc == 0 && call.stream != NULL)
		c->watch = session_watch(call.stream, on_event, c);
}

static void on_closed(void *arg, const struct err *why)
{
	struct client *c = arg;

	if (why->errnum != ECONNRESET && why->errnum != EPIPE)
		log_warn("api", "%s", why->text);
	client_free(c);
}

static const struct conn_ops client_ops = {.json = on_request, .closed = on_closed};

static void client_new(struct api *a, int fd)
{
	enum api_right right = api_rights_of(&a->socket.rules, fd);
	struct client *c;
	struct err e;

	if (right == API_NONE) {
		char who[ADDRESS_TEXT];

		address_of_peer(fd, who);
		log_warn("api", "%s has no right to ask anything", who);
		close(fd);
		return;
	}
	if (a->nclients >= API_CLIENTS) {
		log_warn("api",
			"%u programs are connected, which is the most; one more was refused",
			a->nclients);
		close(fd);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (c == NULL) {
		close(fd);
		return;
	}
	c->api = a;
	c->right = right;
	c->conn = conn_new(a->config.base, fd, NULL, &e);
	if (c->conn == NULL) {
		log_error("api", "%s", e.text);
		free(c);
		return;
	}
	LIST_INSERT_HEAD(&a->clients, c, next);
	a->nclients++;
	conn_own(c->conn, &client_ops, c);
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
	const struct timeval rest = {.tv_sec = 1};
	struct api *a = arg;
	int got;

	(void)what;
	for (;;) {
		got = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (got >= 0) {
			client_new(a, got);
			continue;
		}
		if (errno != EMFILE && errno != ENFILE && errno != ENOMEM)
			return;
		log_error("api", "cannot accept: %s; raise the limit of open files (ulimit -n)",
			strerror(errno));
		if (a->spare < 0)
			break;
		close_fd(&a->spare);
	}
	event_del(a->readable);
	event_add(a->rest, &rest);
}

static void on_rested(evutil_socket_t fd, short what, void *arg)
{
	struct api *a = arg;

	(void)fd;
	(void)what;
	take_spare(a);
	event_add(a->readable, NULL);
}

int api_new(struct api **out, const struct api_config *c, struct err *e)
{
	struct api *a = calloc(1, sizeof(*a));
	int rc;

	if (a == NULL)
		return err_set(e, ENOMEM, "api: no memory");
	a->config = *c;
	a->spare = -1;
	take_spare(a);
	LIST_INIT(&a->clients);
	rc = api_socket_open(
		&a->socket, &api_socket_names, c->path, c->mode, c->group, c->readers, e);
	if (rc < 0) {
		close_fd(&a->spare);
		free(a);
		return rc;
	}
	a->readable = event_new(c->base, a->socket.fd, EV_READ | EV_PERSIST, on_accept, a);
	a->rest = evtimer_new(c->base, on_rested, a);
	if (a->readable == NULL || a->rest == NULL || event_add(a->readable, NULL) != 0) {
		api_free(a);
		return err_set(e, ENOMEM, "api: no memory");
	}
	*out = a;
	return 0;
}

void api_free(struct api *a)
{
	struct client *c;

	if (a == NULL)
		return;
	while ((c = LIST_FIRST(&a->clients)) != NULL)
		client_free(c);
	if (a->readable != NULL)
		event_free(a->readable);
	if (a->rest != NULL)
		event_free(a->rest);
	api_socket_close(&a->socket);
	close_fd(&a->spare);
	free(a);
}
