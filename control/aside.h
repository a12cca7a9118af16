/* SPDX-License-Identifier: BSD-3-Clause */
/* Work that may block, done beside the control loop by a thread of its own. */
#ifndef GODWIT_CONTROL_ASIDE_H
#define GODWIT_CONTROL_ASIDE_H

#include <event2/event.h>

#include "err.h"

/* Calls work(arg) in a new thread, then done(arg), once, from base's loop; what arg points to is
 * the thread's until then. It can't be cancelled: done() finds out whether its answer is still
 * wanted. 0 or -errno with e set, and neither is called. */
int aside_run(struct event_base *base, void (*work)(void *arg), void (*done)(void *arg), void *arg,
	struct err *e);

#endif
