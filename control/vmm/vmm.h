/* SPDX-License-Identifier: BSD-3-Clause */
/* The VMM-driver port, with the dirty source that belongs to it. Every request is answered later
 * through done(), in the order of the requests; none blocks the control loop.
 * Rows: agent (a VMM that links libgodwit), qemu (an unmodified QEMU, over QMP). */
#ifndef GODWIT_CONTROL_VMM_H
#define GODWIT_CONTROL_VMM_H

#include <event2/event.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent_proto.h"
#include "err.h"
#include "region.h"
#include "vmm_where.h"

struct vmm;

/* Answer to one request. On failure status < 0 and why has the sentence. a, b and fd by type, as
 * agent_proto.h says; fd is the callee's. */
struct vmm_answer {
	int status;
	struct err why;
	struct err warn; /* what went wrong besides; errnum 0: nothing */
	uint64_t a, b;
	int fd;
	bool leased; /* RESUME had no answer; at the close of the lease the guest resumes */
};
typedef void (*vmm_fn)(void *arg, struct vmm_answer *answer);

struct vmm_ops {
	const char *name;
	void (*ask)(struct vmm *v, uint16_t type, uint64_t a, uint64_t b, int fd, vmm_fn done,
		void *arg);
	void (*close)(struct vmm *v);
};

struct vmm {
	const struct vmm_ops *ops;
	struct agent_hello hello; /* who it is, after open */
	unsigned state;           /* enum godwit_state as told by HELLO */
	struct region_map map;    /* regions with fds; mapped by the session */
	json_t *about;            /* what the other side is to compare; NULL: only the regions */
	json_t *direct; /* disks that use the page cache for now, after TRACK_START; NULL: none */
	uint64_t *out, *in; /* planes, see agent_proto.h; NULL until open is done */
	int planes_fd;
	uint64_t *hints;     /* planes BALLOON and FREE, see agent_proto.h; NULL: none */
	int hints_fd;        /* of them */
	unsigned hint_flags; /* enum agent_hint */
	pid_t *vcpus;        /* ids of its vCPUs' threads, after open; NULL: not known */
	unsigned nvcpus;
	pid_t pid; /* of the VMM's process; 0: not known */
	int pidfd; /* of the VMM's process, for ending it when it does not answer; or -1 */
	/* The VMM is gone: end of file on its socket. Called once, outside of other calls; requests
	 * under way were answered with -EPIPE before. May be NULL. */
	void (*gone)(void *arg, const struct err *why);
	void *gone_arg;
};

/* Connects to the socket, says hello, fetches planes and regions; then done(), once. *v is set as
 * soon as this returns 0, and is the caller's to close whatever done() says. deadline_ms is for
 * each request: a VMM that is silent for longer is treated as gone. */
int vmm_open(struct vmm **v, struct event_base *base, const struct vmm_where *where,
	unsigned deadline_ms, vmm_fn done, void *done_arg, struct err *e);

/* type: AGENT_TRACK_START to AGENT_PING. a, b as agent_proto.h says; moreover PAUSE may answer a =
 * 1: the guest was paused already, by others; and RESUME at the target with b = 1 leaves it paused.
 * fd (or -1) is sent, and stays the caller's. Several may be under way. done is called once, never
 * from within this call. */
void vmm_ask(struct vmm *v, uint16_t type, uint64_t a, uint64_t b, int fd, vmm_fn done, void *arg);

/* May a device map the guest's memory and read it by itself? It would go on to read a page where it
 * was, after the VMM gave that back and took a new one. NULL: it may; else why not, for a person.
 */
const char *vmm_gives_back(const struct vmm *v);

/* Closes: a lease ends here, the guest resumes by itself unless it was fenced. Requests under way
 * get no answer any more. NULL is allowed; may be called from a callback. */
void vmm_close(struct vmm *v);

/* The VMM's process has ended, for certain. */
bool vmm_ended(const struct vmm *v);

/* Makes sure that the VMM's process is gone: SIGKILL through its pidfd. done(), from the loop,
 * once: when it has ended, or with false when it has not within deadline_ms (a large guest's memory
 * takes seconds to free) or its pid is not known. For a guest that must not run here. */
struct vmm_death;
struct vmm_death *vmm_kill(struct vmm *v, struct event_base *base, unsigned deadline_ms,
	void (*done)(void *arg, bool ended), void *arg);
/* Before done(): it is not called any more. NULL is allowed. */
void vmm_death_cancel(struct vmm_death *d);

struct vmm_word {
	uint16_t type; /* AGENT_HELLO asks nothing else */
	uint64_t a;
	const json_t *direct; /* RESUME, TRACK_STOP: as in struct vmm; they are as they were then */
	unsigned timeout_ms;
	/* Answers. */
	unsigned state;  /* enum godwit_state, before the request */
	struct err warn; /* as in struct vmm_answer */
};

/* One request and its answer on a fresh connection, blocking up to timeout_ms: for what has no
 * session any more (recovery, resolve). 0 or -errno with e set. */
int vmm_once(const struct vmm_where *where, struct vmm_word *word, struct err *e);

/* Fills vcpus by the names of the VMM's threads. */
void vmm_find_vcpus(struct vmm *v);

/* The rows' own, see vmm.c. */
int vmm_agent_open(struct vmm **v, struct event_base *base, const struct vmm_where *where,
	unsigned deadline_ms, vmm_fn done, void *done_arg, struct err *e);
int vmm_agent_once(const struct vmm_where *where, struct vmm_word *word, struct err *e);
int vmm_qemu_open(struct vmm **v, struct event_base *base, const struct vmm_where *where,
	unsigned deadline_ms, vmm_fn done, void *done_arg, struct err *e);
int vmm_qemu_once(const struct vmm_where *where, struct vmm_word *word, struct err *e);
/* A socket connected to a VMM's libgodwit. flags: SOCK_NONBLOCK or 0. */
int vmm_agent_connect(const char *path, int flags, struct err *e);

#endif
