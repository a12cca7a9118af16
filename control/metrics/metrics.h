/* SPDX-License-Identifier: BSD-3-Clause */
/* Metrics for machines: GET /metrics on a unix socket, or on a port of the loopback. Control loop
 * only. The text is made at most five times a second, however often it is asked for. */
#ifndef GODWIT_CONTROL_METRICS_H
#define GODWIT_CONTROL_METRICS_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdio.h>

#include "err.h"

#define METRICS_CLIENTS 8u /* connected at once; more are refused */
#define METRICS_IDLE_S  3u /* then a silent one is cut */

struct metrics;

struct metrics_config {
	struct event_base *base;
	const char *where;        /* "/PATH" of a socket, "127.0.0.1:PORT", "[::1]:PORT" */
	const char *group;        /* of the socket; NULL or "": that of the process */
	const char *group_option; /* that named it */
	bool everybody;           /* may connect to the socket */
	/* Families of the rest of the daemon: cores. */
	void (*more)(void *arg, FILE *out);
	void *arg;
};

/* 0 or -errno with e set. */
int metrics_new(struct metrics **m, const struct metrics_config *c, struct err *e);
/* Leaves its clients, removes the socket. NULL is allowed. */
void metrics_free(struct metrics *m);

#endif
