/* SPDX-License-Identifier: BSD-3-Clause */
/* Sessions that move nothing: they play back events, so that the API and both programs can be tried
 * without a guest. A name chooses how a session ends: "fails", "refused", "undecided", "cancelled",
 * "silent" (goes on until it is cancelled), "many" (a report that is too long for one message). */
#ifndef STUB_SESSION_H
#define STUB_SESSION_H

#include "session.h"

/* What the last calls asked for. */
extern struct migrate_options stub_migrate;
extern struct receive_options stub_receive;
extern uint64_t stub_bandwidth, stub_downtime;
extern char stub_keep[16];
extern unsigned stub_resolved;       /* answers that session_resolve() gave late */
extern struct event_base *stub_base; /* for answers that come later */

/* Forgets all sessions. */
void stub_reset(void);

#endif
