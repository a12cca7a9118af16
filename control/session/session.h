/* SPDX-License-Identifier: BSD-3-Clause */
/* A session: one guest on its way, at one of the two hosts. The API and the listener call this; the
 * rest of a session is inside session.c and stage.c. Control loop only. */
#ifndef GODWIT_CONTROL_SESSION_H
#define GODWIT_CONTROL_SESSION_H

#include <event2/event.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "codec.h"
#include "converge.h"
#include "err.h"
#include "link_rdma.h"
#include "listen.h"
#include "stats.h"
#include "tls.h"
#include "vmm_where.h"

#define SESSION_NAME  64u
#define SESSION_MAX   64u /* sessions of one daemon at once */
#define SESSION_FLOWS 64u /* flows of one session */

#define SESSION_SILENCE_MS_LEAST 1000u
#define SESSION_SILENCE_MS_MOST  3600000u

/* How flows are sealed: as --seal says. auto: sealed where the hosts have keys. */
enum seal_wish { SEAL_WISH_AUTO, SEAL_WISH_AES, SEAL_WISH_NONE };

enum verify_mode { VERIFY_SUMS, VERIFY_MEMORY };

/* What godwit migrate asks for. */
struct migrate_options {
	char name[SESSION_NAME];
	struct vmm_where vmm;
	char to[256];   /* HOST:PORT of the target's godwitd */
	char peer[256]; /* name that its certificate must bear; "": the host of to */
	char link[16];  /* "nic", "rdma", "tcp"; "auto" until preflight has chosen */
	const struct codec_ops *codec;
	int codec_level;
	unsigned flows;
	uint64_t peer_timeout_ns; /* of silence on the wire */
	uint64_t reconnect_ns;    /* that a lost network is waited for; 0: not at all */
	uint64_t bytes_per_s;     /* of the whole session on the wire; 0: no limit */
	struct converge_limits limits;
	enum verify_mode verify;
	enum seal_wish seal;
	unsigned throttle_percent; /* of their time that vCPUs keep at the least; 100: all */
	bool skip_balloon;         /* leave pages in the balloon out */
	bool dry_run;              /* stop after preflight */
	bool hold;                 /* stop before the switch-over, until switch-now */
	bool prepare; /* map what the guest has populated, and stop before copying until begin */
};

/* What godwit receive asks for. */
struct receive_options {
	char name[SESSION_NAME];
	struct vmm_where vmm;
	/* Its nominal size is checked and booked at once, and populated before a page is copied.
	 * Else what the source has populated is checked and booked when it comes. */
	bool populate;
	enum seal_wish seal;
	char from[256]; /* name that the source's certificate must bear; "": any that is allowed */
};

struct ports;

/* What the daemon gives to sessions; filled by godwitd.c. */
struct session_host {
	struct event_base *base;
	const char *state_dir; /* journals */
	unsigned nlcores;
	struct tls_host *tls;        /* NULL: insecure, plain text with others that are so too */
	struct ports *ports;         /* of the daemon */
	struct link_rdma_host *rdma; /* NULL: none */
	struct helper *helper;       /* looks into unmodified VMMs; NULL: could not be started */
};

struct session;

/* Both fail with e set and nothing left behind; on success the session runs by itself. */
int session_migrate(
	struct session_host *h, const struct migrate_options *o, struct session **s, struct err *e);
int session_receive(
	struct session_host *h, const struct receive_options *o, struct session **s, struct err *e);

/* NULL when there is none. */
struct session *session_find(const char *name);
/* Calls fn for each session, ended ones that are still remembered too. */
void session_each(void (*fn)(void *arg, struct session *s), void *arg);

/* Each: 0, or -errno with e saying why not now. */
int session_cancel(struct session *s, struct err *e);
int session_begin(struct session *s, struct err *e);
int session_switch_now(struct session *s, struct err *e);
int session_set_bandwidth(struct session *s, uint64_t bytes_per_s, struct err *e);
int session_set_downtime(struct session *s, uint64_t ns, struct err *e);
/* An undecided session, or a journal of a former daemon. keep: "source" (the guest goes on here;
 * the operator made sure that the target does not run it) or "target". NULL: only tell what to
 * check. 0: fn is called, once, from the loop or before this returns; or -errno with e set.
 * tell: an object for the operator, borrowed; NULL where there is nothing to tell any more. */
typedef void (*session_resolve_fn)(void *arg, int status, json_t *tell, const struct err *why);
int session_resolve(
	const char *name, const char *keep, session_resolve_fn fn, void *arg, struct err *e);

/* One object: name, side, state, stage, pass, counters, report. New reference. */
json_t *session_status(const struct session *s);
const char *session_name(const struct session *s);

/* What all sessions counted since the daemon's start: source, target. Never goes back. */
void session_counters(uint64_t sum[2][STATS]);
/* Families of metrics, see expo.h. */
void session_metrics(FILE *out);

/* Events of a session as they happen, the final one ("event": "end") last; see godwit(1) for their
 * fields. Events that happened before are not repeated, but one that ended reports "end" at once.
 * Returns a handle for session_unwatch(). The event is borrowed. */
struct session_watch;
struct session_watch *session_watch(
	struct session *s, void (*fn)(void *arg, json_t *event), void *arg);
void session_unwatch(struct session_watch *w);

/* From the listener. fd and tls are taken over. */
void session_accept(struct session_host *h, int fd, struct tls *tls, const struct preamble *p);

/* From the RDMA listener: does a session wait for this flow? */
bool flows_rdma_asked(void *arg, const struct link_rdma_ask *ask, struct link_rdma_welcome *w);
/* The RDMA device was removed, which no flow tells those that have none: they fail. */
void flows_rdma_removed(void *arg);

/* At start: reads journals, and gives guests back where that is certain to be right. */
int session_recover(struct session_host *h, struct err *e);
/* At the end of the daemon: cancels what can be cancelled. */
void session_shutdown(void);

#endif
