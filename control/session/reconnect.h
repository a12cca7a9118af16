/* SPDX-License-Identifier: BSD-3-Clause */
/* A session whose network was lost goes on; see reconnect.c. Control loop only. */
#ifndef GODWIT_CONTROL_RECONNECT_H
#define GODWIT_CONTROL_RECONNECT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "conn.h"
#include "err.h"
#include "listen.h"

struct session;

/* Of one session. */
struct session_reconnect {
	uint64_t wait_ns;  /* a lost network is waited for so long; 0: not at all */
	bool joined;       /* all flows were up once */
	bool lost;         /* and not all flows are up again */
	uint64_t until_ns; /* that it is waited for */
	uint64_t lost_ns;
	bool leaving;                /* what was lost is not all let go of yet */
	struct err why;              /* it was lost */
	uint64_t next_ns;            /* source: of the next attempt */
	bool asked;                  /* target: the source is back, and not answered yet */
	uint32_t pass;               /* target: that it goes on with */
	uint8_t secret[TOKEN_BYTES]; /* of the session, over its control connections only */
	char peer[256];              /* target: the names on the source's certificate */
};

/* The network failed, as why says: goes on by connecting anew where that can be, else fails. */
void reconnect_or_fail(struct session *s, const struct err *why);
/* Target: a source that was lost is back on c, which is taken over on success. 0 or -errno. */
int reconnect_accept(struct session *s, struct conn *c, json_t *msg, struct err *e);
/* Target: makes the session's secret, and adds it to a message. 0 or -errno. */
int reconnect_new_secret(struct session *s, json_t *msg, struct err *e);
/* From the tick, in that state. */
void reconnect_tick(struct session *s);
/* All flows are up. */
void reconnect_joined(struct session *s);

#endif
