/* SPDX-License-Identifier: BSD-3-Clause */
/* The VMM-driver port, with the dirty source that belongs to it. Every request is answered later
 * through done(), in the order of the requests; none blocks the control loop.
 * Rows: agent (a VMM that links libgodwit), fake (in memory, for tests). */
#ifndef GODWIT_CONTROL_VMM_H
#define GODWIT_CONTROL_VMM_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent_proto.h"
#include "err.h"
#include "region.h"

struct vmm;

/* Answer to one request. On failure status < 0 and why has the sentence. a, b and fd by type, as
 * agent_proto.h says; fd is the callee's. */
struct vmm_answer {
	int status;
	struct err why;
	uint64_t a, b;
	int fd;
};
typedef void (*vmm_fn)(void *arg, struct vmm_answer *answer);

struct vmm {
	struct agent_hello hello; /* who it is, after open */
	unsigned state;           /* enum godwit_state as last told */
	struct region_map map;    /* regions with fds; mapped by the session */
	uint64_t *out, *in;       /* planes, see agent_proto.h */
	int planes_fd;
	/* The VMM is gone: end of file on its socket. Called once, outside of other calls. */
	void (*gone)(void *arg, const struct err *why);
	void *arg;
};

/* Connects to the socket, says hello, fetches regions and planes; then done(). The vmm is *v as
 * soon as this returns 0. deadline_ms is for each request. */
int vmm_agent_open(struct vmm **v, struct event_base *base, const char *socket,
	unsigned deadline_ms, vmm_fn done, void *done_arg, struct err *e);

/* type: AGENT_TRACK_START to AGENT_PING. a, b as agent_proto.h says. fd (or -1) is duplicated.
 * Several may be under way. done is called once, never from within this call. */
void vmm_ask(struct vmm *v, uint16_t type, uint64_t a, uint64_t b, int fd, vmm_fn done, void *arg);

/* Closes: a lease ends here, the guest resumes by itself unless it was fenced. Requests under way
 * get no answer any more. NULL is allowed; may be called from a callback. */
void vmm_close(struct vmm *v);

#endif
