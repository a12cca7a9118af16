/* SPDX-License-Identifier: BSD-3-Clause */
/* Two processes with a DPDK port each, on a pair of devices of this machine, and the memories that
 * move between them. What goes wrong ends the process with a sentence. */
#ifndef GODWIT_TESTS_NIC_WORLD_H
#define GODWIT_TESTS_NIC_WORLD_H

#include "flow.h"
#include "link_nic.h"
#include "port.h"
#include "seed.h"

#define WORLD_WAIT_S 120
#define WORLD_FLOWS  8u
#define WORLD_TOKEN  1000u /* the first of all flows' */

/* How it ends; after pass 0, but for a cut that heals, which is in each pass. */
enum world_end { END_WELL, END_CUT, END_KILL_SOURCE, END_KILL_TARGET, END_SHRINK };

struct world_options {
	const char *device; /* "memif", "vhost", "packet" */
	unsigned queues, flows, mtu, vlan, mib, passes;
	unsigned lose;            /* parts of 65536, on both sides */
	unsigned cut_ms, dead_ms; /* the wire is cut so long in each pass; 0: never, 30 s */
	unsigned barrier_ms;      /* a barrier that nobody hears gives up after it; 0: never */
	enum world_end end;
	bool v6, copy, deflate, seal;
	bool keep; /* the target's memory is all there before, and kept */
	uint64_t seed;
};

struct world {
	struct world_options o;
	struct region_map from, to; /* mapped in both processes */
	int wire[2];                /* source, target: messages between the two */
	char dir[64];               /* for sockets */
	char veth[2][16], netns[16];
};

struct world_side {
	struct world *w;
	bool source;
	struct port *port;
	struct send_job send_job;
	struct recv_job recv_job;
	struct dirty dirty;
	struct claim claim;
	struct flow *flow[WORLD_FLOWS];
};

/* Parent: memories and devices. Exits with 77 where this machine lacks something. */
void world_open(struct world *w, const struct world_options *o);
void world_close(struct world *w);

/* One side, in a process of its own: EAL, port, links, flows attached. */
void world_side_open(struct world_side *s, struct world *w, bool source);
/* Goodbye, and all of it freed. alone: the other side is dead. */
void world_side_close(struct world_side *s, bool alone);

/* Source: writes over memory, with holes and zeros too; says what is dirty now. */
void world_scribble(struct world_side *s, struct seed *seed, bool first);
void world_publish(struct world_side *s, uint32_t pass);
/* Until all flows have done the pass. */
void world_wait_pass(struct world_side *s, uint32_t pass);

/* Until all flows have failed, with this number and a sentence that holds these words. */
void world_wait_dead(struct world_side *s, int errnum, const char *words);
/* Who goes last waits until the other side's port is gone, where the device needs that. */
void world_let_the_other_go(const struct world_side *s);
/* Takes the wire away, or gives it back; packet only. */
void world_wire(struct world *w, bool up);

/* Listens to the wire from now on; checks what went over it, and closes. packet only. */
int world_capture(const struct world *w);
void world_read_capture(int fd);

/* Messages: a word to the other side, and from it. */
void world_say(struct world_side *s, uint64_t word);
uint64_t world_hear(struct world_side *s);

/* Parent, when both are through: the first page that differs, as a sentence; NULL: none. */
const char *world_differs(const struct world *w);

void world_fail(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif
