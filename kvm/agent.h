/* SPDX-License-Identifier: BSD-3-Clause */
/* Between the parts of libgodwit. A VMM sees godwit.h only.
 *
 *   agent.c         the public functions
 *   agent_serve.c   the thread: poll, connections, the lease
 *   agent_do.c      what each request does
 *   agent_hint.c    the balloon and free pages
 *   agent_writer.c  who else writes guest memory
 *   agent_listen.c  the socket to listen on */
#ifndef GODWIT_KVM_AGENT_H
#define GODWIT_KVM_AGENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "agent_proto.h"
#include "balloon.h"
#include "free_page.h"
#include "godwit.h"
#include "kvm_ring.h"
#include "source.h"

/* Connections that have not said hello; one more pushes the oldest out. */
#define AGENT_WAITING 4u

#define AGENT_WRITERS     64u /* that a VMM can tell of */
#define AGENT_WRITER_NAME 64u /* bytes, with the NUL */

/* Under the lock: any thread adds and removes, the agent's looks. */
struct agent_writers {
	pthread_mutex_t lock;
	bool tracking; /* each must be seen */
	struct {
		char name[AGENT_WRITER_NAME]; /* "": free */
		enum godwit_writer kind;
	} one[AGENT_WRITERS];
};

/* The daemon that was answered to its hello. */
struct agent_session {
	int sock; /* -1: none */
	int planes_fd;
	uint64_t *out, *in; /* the planes, mapped together */
	uint64_t *want;     /* private copy of IN words: the daemon can't change them under us */
};

struct godwit {
	/* set before the thread starts, constant afterwards */
	char name[64];
	char path[108];
	int vm_fd;
	enum godwit_tracker tracker_kind;
	const struct godwit_ops *ops;
	void *opaque;
	struct region_map map;
	uint32_t flags[REGION_MAX][REGION_VIEWS];
	uint32_t *slot_flags; /* the same, region by region, for the source */
	struct ring_vcpus vcpus;
	struct source *tracker; /* of vCPUs; in sources, as are the next two */
	struct source *vhost;   /* NULL without ops->track */
	struct source *sources; /* all of them */
	int hints_fd;
	uint64_t *hints; /* plane BALLOON, then plane FREE; shared with the daemon */
	struct balloon balloon;
	struct free_page free_page;
	bool keeps;                      /* godwit_keeps_memory() was called */
	_Atomic(struct source *) writes; /* any thread: ro, through godwit_wrote */

	struct agent_writers writers;

	atomic_int state; /* enum godwit_state; agent: wo, any thread: ro */

	/* agent's thread only, once it runs */
	struct agent_session session;
	int waiting[AGENT_WAITING]; /* oldest first; -1: none */
	int listen;
	struct stat listen_stat; /* of the socket that we made, so that no other is unlinked */
	bool tracking;
	bool throttled;
	bool free_asked; /* the guest was asked for free pages */
	bool resume_due; /* the lease ended and resume() failed: try again */

	int stop; /* eventfd: godwit_free wakes the thread */
	pthread_t thread;
	bool started;
};

/* agent_listen.c: fills g->listen. -errno with e set. */
int agent_listen(struct godwit *g, struct err *e);
void agent_unlisten(struct godwit *g);

/* agent_serve.c: the thread's function. */
void *agent_thread(void *g);

/* agent_do.c: answers one request (ask->fd stays the caller's). answer is filled but for type and
 * seq; its fd is the caller's to close. After AGENT_END was answered the caller ends the guest. */
void agent_do(struct godwit *g, struct agent_msg *ask, struct agent_msg *answer);
/* Stops tracking, if it is on. 0 or -errno. */
int agent_untrack(struct godwit *g, struct err *e);
/* Planes for a new session; and away with them. */
int agent_make_planes(struct godwit *g, struct err *e);
void agent_drop_planes(struct godwit *g);

/* agent_writer.c: tracking is to begin: -ENOTSUP with the writer that nobody would see in e; and
 * has ended. */
int agent_writers_begin(struct godwit *g, struct err *e);
void agent_writers_end(struct godwit *g);

/* agent_hint.c: the planes of hints; and away with them. */
int agent_make_hints(struct godwit *g, struct err *e);
void agent_drop_hints(struct godwit *g);
/* No report is wanted any more. */
void agent_end_free(struct godwit *g);
int agent_do_hints(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e);
int agent_do_free(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e);
int agent_do_free_look(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e);
int agent_do_balloon(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e);

#endif
