/* SPDX-License-Identifier: BSD-3-Clause */
/* The local API: a unix socket with the messages of conn.h. A request is a JSON object whose "do"
 * names a row of command.h; its answer is {"ok": true, ...}, or {"ok": false, "error": sentence,
 * "errno": "EBUSY"}. migrate and receive (but with "detach"), and watch, then stream the session's
 * events, of which "end" is the last. Answers come in the order of the requests. A client that
 * leaves ends nothing: the session goes on. */
#ifndef GODWIT_CONTROL_API_H
#define GODWIT_CONTROL_API_H

#include <event2/event.h>
#include <jansson.h>
#include <sys/types.h>

#include "err.h"
#include "option.h"
#include "session.h"

#define API_CLIENTS       64u        /* connected at once */
#define API_BACKLOG_BYTES (1u << 20) /* a slower reader misses progress events */
#define API_DROP_BYTES    (8u << 20) /* and a much slower one is left */

struct api;

struct api_config {
	struct event_base *base;
	struct session_host *host;
	const char *path; /* of the socket */
	mode_t mode;
	const char *group; /* name or number; NULL or "": that of the process */
	/* Group that may only ask what tells, or "everybody"; NULL or "": nobody more. */
	const char *readers;
	/* Adds what status without a name tells of the daemon. */
	void (*about)(void *arg, json_t *daemon);
	void *arg;
};

/* Replaces a stale socket; one that a daemon answers on is -EADDRINUSE. Makes the socket's
 * directory if it is not there. -errno with e set. */
int api_new(struct api **a, const struct api_config *c, struct err *e);
/* Removes the socket and leaves its clients. NULL is allowed. */
void api_free(struct api *a);

/* One request under way, for the handlers of api_call.c. */
struct api_call {
	const struct api_config *config;
	const char *name; /* of the session, checked; NULL where the request has none */
	const struct option_set *options;
	json_t *reply;            /* fields to add to the answer */
	struct session *stream;   /* its events follow the answer, if the request streams */
	session_resolve_fn later; /* for a handler that answers later */
	void *later_arg;
};

/* Carries out a request, whose other fields are set. busy: this client follows a session already,
 * so a request that streams is refused. 0; API_LATER: call->later gets the answer, or has got it;
 * or -errno with e set. */
#define API_LATER 1
int api_call(struct api_call *call, json_t *request, bool busy, struct err *e);

#endif
