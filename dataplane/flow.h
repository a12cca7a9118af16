/* SPDX-License-Identifier: BSD-3-Clause */
/* A flow: one source lcore and one target lcore with their own link. This is what control hands to
 * lcores. A flow belongs to control until flow_attach(), to its lcore until flow_detach() is done.
 */
#ifndef GODWIT_DATAPLANE_FLOW_H
#define GODWIT_DATAPLANE_FLOW_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "claim.h"
#include "codec.h"
#include "dirty.h"
#include "link.h"
#include "region.h"
#include "stats.h"

#define FLOW_NO_PASS UINT32_MAX

/* What all flows of one session share at the source. Filled by control before flows are attached;
 * then read-only for lcores, but for the planes, whose words they own as base/dirty.h says. */
struct send_job {
	struct region_map *map;
	struct dirty *dirty;
	struct claim *claim;
	const struct codec_ops *codec;
	int level;
	_Atomic uint64_t bytes_per_s; /* of each flow on the wire; 0: no limit. control: wo */
};

/* What all flows of one session share at the target. */
struct recv_job {
	struct region_map *map; /* mapped writable */
	/* The pass + 1 in which a chunk was placed last; a chunk is placed once a pass (law 5). */
	_Atomic uint32_t *placed_pass;
	/* Pages that may hold content: others are fresh and are not written with zeros (law 11).
	 * stale: of these, what was there before the session, and no frame has spoken of since.
	 * One word a chunk; written by the flow that owns the chunk in this pass. */
	uint64_t *written, *stale;
	/* Regions that a device may write by itself, until recv_job_release(); constant while flows
	 * are attached. later: their pages that are to be holes then, and hold zeros now. */
	bool pinned[REGION_MAX];
	uint64_t *later;       /* as written; NULL: no such region */
	bool kept[REGION_MAX]; /* regions whose old content was kept. Constant once ready */
	struct punch *punch;   /* makes holes, off the polling core */
	bool alone;            /* one flow writes all; set by control before flows are attached */
};

enum flow_kind {
	FLOW_SEND,
	FLOW_RECV,
	FLOW_PORT, /* no flow, but what polls a port's queue (port.h): no link, no passes */
};

struct flow {
	enum flow_kind kind;
	struct link *link;
	unsigned lcore; /* EAL lcore id */
	unsigned node;  /* NUMA node index of that lcore, for claim_take() */

	/* control: wo, lcore: ro */
	_Atomic uint32_t run_pass
		__cacheline; /* send: run passes up to this one; FLOW_NO_PASS: none */
	_Atomic bool stop;   /* let go of the flow, as soon as possible */

	/* lcore: wo, control: ro */
	_Atomic uint32_t done_pass __cacheline; /* last pass whose barrier was acknowledged (send)
						 * or answered (recv); FLOW_NO_PASS: none yet */
	_Atomic int error;                      /* positive errno; then why holds a sentence */
	_Atomic bool detached;                  /* the lcore will not touch the flow again */
	_Atomic uint64_t progress;              /* grows whenever something moved: for time-outs */
	_Atomic bool heard; /* a frame, or the answer to one, came from the other side */
	struct err why;     /* written before error, once */
	struct stats stats;

	/* lcore only */
	void *priv; /* struct send, struct recv or struct port_queue */
};

/* Makes a flow around a link (taken over; closed by flow_free). 0 or -errno. Control thread. */
int flow_send_new(struct flow **f, struct send_job *job, struct link *link, unsigned lcore,
	int node, struct err *e);
int flow_recv_new(struct flow **f, struct recv_job *job, struct link *link, unsigned lcore,
	int node, struct err *e);
/* Before flow_attach(), the same on both sides: its first pass, where it is not 0. */
void flow_begin_at(struct flow *f, uint32_t pass);
/* Lcore, its own flow. */
static inline void flow_heard(struct flow *f)
{
	if (!atomic_load_explicit(&f->heard, memory_order_relaxed))
		atomic_store_explicit(&f->heard, true, memory_order_relaxed);
}
/* Frees it with its link. Detached, or never attached. NULL is allowed. */
void flow_free(struct flow *f);

/* One turn on the calling thread: lcores call it for each of their flows; tests call it directly.
 * Returns true when something moved. Never blocks, allocates or makes a system call, but for its
 * link's. After an error it does nothing. */
bool flow_poll(struct flow *f);
/* After flow_detach(), on its lcore, until it returns true: the link says goodbye. */
bool flow_leave(struct flow *f);

/* The receiver's shared state: 20 bytes a chunk, lazily populated. begin() starts to punch out what
 * the files hold from before, off the calling thread; no flow may be attached until ready() says 1
 * (0: not yet; -errno with e set). init() does both and waits. keep: in regions whose memory is
 * all allocated (tmpfs, hugetlbfs) it stays, and kept[] says so: then the source has to count
 * their pages as held. */
int recv_job_begin(struct recv_job *j, struct region_map *map, bool keep, struct err *e);
int recv_job_ready(struct recv_job *j, struct err *e);
int recv_job_init(struct recv_job *j, struct region_map *map, bool keep, struct err *e);
/* Is this a region that keep would leave as it is? */
bool recv_job_can_keep(const struct region *r);
/* Between passes, or when flows are gone: pages of old content that are still there. 0 after a last
 * pass, or the source forgot some (law 11). */
uint64_t recv_job_stale(const struct recv_job *j);
/* After ready(): all pages were given memory since, which reads as zeros. They are no holes, so
 * zeros are written to them and holes give them back. */
void recv_job_populated(struct recv_job *j);
/* Before flows are attached: this region, all of whose memory is there, may be written by a device
 * of its own accord. 0 or -errno. */
int recv_job_pin(struct recv_job *j, unsigned region, struct err *e);
/* Flows have let go and no device can write any more: makes the holes that had to wait. 1: they are
 * made, 0: not yet, call again; -errno with e set. */
int recv_job_release(struct recv_job *j, struct err *e);
/* Flows are gone. */
void recv_job_fini(struct recv_job *j);

/* Marks a flow broken, once: the sentence first, then the number (release). Lcore. */
void flow_fail(struct flow *f, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
