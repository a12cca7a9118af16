/* SPDX-License-Identifier: BSD-3-Clause */
/* One pass over the dirty set at the source: look, holes, then window by window arm and hand to the
 * flows, then put back what was not acknowledged. Knows no sockets and no lcores: what it needs
 * from outside are three calls, answered later or at once. Control loop only (tests: one thread).
 *
 *   pass_begin -> io.look ... pass_looked -> [state LOOKED: the caller decides]
 *   pass_go -> io.arm ... pass_armed, pass_poll until PASS_PUBLISHED -> flows' barriers ->
 * pass_close
 *
 * Laws kept here: 1 (arm before publish, put back), 3 and 4 (what is left out), 5 (the caller
 * closes a pass before the next), 11 (holes each pass), 12 (an idle pass walks words, never pages).
 */
#ifndef GODWIT_CONTROL_PASS_H
#define GODWIT_CONTROL_PASS_H

#include <stdbool.h>
#include <stdint.h>

#include "claim.h"
#include "clock.h"
#include "dirty.h"
#include "err.h"
#include "exclude.h"
#include "region.h"

#define PASS_WINDOW_PAGES  16384u     /* pages armed together: 64 MiB */
#define PASS_WINDOW_CHUNKS (1u << 16) /* widest window: 16 GiB of guest memory */
#define PASS_FREE_PAGES    1024u      /* the same while reports of free pages may come */
#define PASS_FREE_REST_NS  NS_PER_MS
#define PASS_WINDOWS       4u /* armed ahead of the flows, at most */

enum pass_kind {
	PASS_LIVE, /* the guest runs */
	PASS_LAST, /* the guest is paused */
	PASS_LATE, /* paused, device state was saved */
};

enum pass_state {
	PASS_IDLE,
	PASS_LOOKING,
	PASS_LOOKED,    /* dirty set is up to date; pass_go() starts the sending */
	PASS_RUNNING,   /* windows are armed and published */
	PASS_PUBLISHED, /* all is with the flows; wait for their barriers, then pass_close() */
	PASS_FAILED,
};

/* What a pass needs from outside. look and arm answer by pass_looked() and pass_armed(), never from
 * within the call. */
struct pass_io {
	void (*look)(void *arg, bool last);
	void (*arm)(void *arg, uint64_t first, uint64_t n);
	/* Calls found(found_arg, offset, bytes) for each run of pages of region r that are no
	 * holes; found returns 0. 0 or -errno with e set. */
	int (*populated)(void *arg, struct region *r,
		int (*found)(void *found_arg, uint64_t offset, uint64_t bytes), void *found_arg,
		struct err *e);
	/* Only with hints, pass 0. Asks the guest which pages are free (law 3), or no longer (id
	 * 0); and for what it has answered since, which is told by pass_free_looked(). */
	void (*free_request)(void *arg, uint32_t id);
	void (*free_look)(void *arg, uint32_t id);
};

/* What a pass did; for reports. */
struct pass_facts {
	uint32_t number;
	enum pass_kind kind;
	uint64_t dirty_pages;   /* to be sent, when it began */
	uint64_t hole_pages;    /* to become holes at the target */
	uint64_t skipped_pages; /* pass 0: left out because they are holes */
	uint64_t balloon_pages; /* left out because they are in the balloon */
	uint64_t free_pages;    /* pass 0: left out because the guest said that they are free */
	uint64_t back_pages;    /* put back when it closed */
	uint64_t windows;
	uint64_t look_ns, hole_ns, arm_ns, walk_ns;
};

struct pass {
	/* set by pass_init, constant */
	struct region_map *map;
	struct dirty *dirty;
	struct claim *claim;
	const struct pass_io *io;
	void *io_arg;
	uint64_t *out, *in; /* planes shared with the dirty source, see agent_proto.h */
	int planes_fd;      /* memfd of the planes; its holes are words of zero. -1: walk all */

	uint64_t *populated; /* pages that are no holes, one word a chunk; as of the last look */
	struct exclude *x;   /* hints; NULL: none. Set after pass_init */
	bool prearm;         /* pass 0: all is armed before the guest is asked for free pages */
	uint64_t free_window_pages; /* armed together while reports may come: PASS_FREE_PAGES */
	uint64_t free_rest_ns;      /* between questions for what the guest reported */
	uint32_t free_id;           /* of the request under way; 0: none */
	bool free_asking, free_ended;
	uint64_t free_asked_ns;
	bool first_done; /* pass 0 has put all that is populated into the set */

	enum pass_state state;
	struct pass_facts facts;
	struct err why;

	uint64_t cursor;    /* first chunk that no window has covered */
	unsigned arming;    /* windows asked for and not answered */
	uint64_t arm_began; /* clock_ns of the oldest of them */
	uint64_t look_began;
	struct span *spans; /* armed, not yet published: [span_head, span_tail) */
	unsigned span_head, span_tail;
};

/* planes: out and in as the dirty source shares them (map->nchunks words each). 0 or -ENOMEM. */
int pass_init(struct pass *p, struct region_map *map, struct dirty *d, struct claim *c,
	uint64_t *out, uint64_t *in, int planes_fd, const struct pass_io *io, void *io_arg);
void pass_fini(struct pass *p);

/* From IDLE or LOOKED (a new look at a paused guest). */
void pass_begin(struct pass *p, uint32_t number, enum pass_kind kind);
/* The source's answer to look: status 0 or -errno with why. */
void pass_looked(struct pass *p, int status, const struct err *why);
/* From LOOKED. */
void pass_go(struct pass *p);
void pass_armed(struct pass *p, uint64_t first, uint64_t n, int status, const struct err *why);
/* The answer to free_look: pages reported; ended: the guest has told all. */
void pass_free_looked(
	struct pass *p, int status, uint64_t pages, bool ended, const struct err *why);
/* Publishes what is armed, asks for more windows. Call it from the loop while RUNNING. */
void pass_poll(struct pass *p);
/* From PUBLISHED, after all flows' barriers were acknowledged (or all flows are gone): what was not
 * acknowledged goes back to the set. Returns pages put back and holes not made. */
uint64_t pass_close(struct pass *p);

/* Spans of one window at most: every chunk of it a span of its own group of SPAN_CHUNKS. */
#define PASS_WINDOW_SPANS (PASS_WINDOW_CHUNKS / SPAN_CHUNKS + 1)
#define PASS_SPANS        (PASS_WINDOW_SPANS * PASS_WINDOWS)

/* Between pass.c, pass_window.c and pass_free.c. */
uint64_t pass_window_pages(const struct pass *p);
bool pass_ask_window(struct pass *p); /* false: nothing is left */
void pass_take_window(struct pass *p, uint64_t first, uint64_t n);
void pass_publish(struct pass *p); /* as far as the flows' queues have room */
void pass_fail(struct pass *p, const struct err *why);
void pass_take_out(struct pass *p); /* the source's OUT words to the set */
void pass_free_ask(struct pass *p);
void pass_free_poll(struct pass *p);
void pass_free_close(struct pass *p);

const char *pass_kind_name(enum pass_kind k);

#endif
