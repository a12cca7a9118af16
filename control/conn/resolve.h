/* SPDX-License-Identifier: BSD-3-Clause */
/* Host names to addresses without blocking the control loop: a helper thread asks the system's
 * resolver, so names mean here what they mean to every other program of the host. */
#ifndef GODWIT_CONTROL_RESOLVE_H
#define GODWIT_CONTROL_RESOLVE_H

#include <event2/event.h>
#include <netdb.h>

#include "err.h"

struct resolve;

/* list is the callee's to free by freeaddrinfo(), or NULL with why set. Called once, from the loop;
 * afterwards the handle is gone. */
typedef void (*resolve_fn)(void *arg, struct addrinfo *list, const struct err *why);

/* 0 or -errno with e set. */
int resolve_new(struct resolve **r, struct event_base *base, const char *host, const char *port,
	resolve_fn fn, void *arg, struct err *e);
/* fn is not called any more. The thread ends by itself once the resolver answers. NULL is allowed.
 */
void resolve_cancel(struct resolve *r);

#endif
