/* SPDX-License-Identifier: BSD-3-Clause */
/* Which codec a frame gets, where the link's backlog is to decide: so that core and wire are both
 * busy. Pure: no clock, no memory, no codec; one struct a flow, run by its core.
 *
 * It holds a price: the cycles that a byte less on the wire is worth. A frame gets the option with
 * the least cycles + price * bytes, so at any price the cycles go where they take most off the
 * wire. The price is reckoned: the least at which the wire does not take longer than the core for
 * the content as it comes, from the cycles and ratio of each option on each kind of content, which
 * a look at 1 KiB of the frame tells, and from how fast the link drains. All of these are learned.
 * What the link holds corrects it: with little left the price falls, with much it rises. And an
 * option that takes longer than what the link holds leaves the wire idle, which counts as bytes.
 *
 * A backlog can be the target's: its core is slower, has other flows, or writes to memory that is
 * new. It tells how busy it is, and so how many times longer than assumed it takes for the frames
 * that it answers. An option that it would take longer for than the slowest part of the way takes
 * for another option is not chosen, however dear bytes are. */
#ifndef GODWIT_DATAPLANE_CHOOSE_H
#define GODWIT_DATAPLANE_CHOOSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define CHOOSE_OPTIONS 8u
#define CHOOSE_KINDS   9u /* 0: as good as random; the more uneven its bytes, the higher */
#define CHOOSE_TEXT    (CHOOSE_KINDS - 1)

/* Of an option on a kind of content. */
struct choose_cost {
	double cycles; /* a byte of content, where the core is not slow */
	double ratio;  /* bytes on the wire of a byte of content */
	unsigned seen; /* times, up to a few; 0: assumed */
	double decode; /* cycles a byte at the target, all that it does. Assumed: see times */
};

/* What the link looks like before a frame is made. */
struct choose_link {
	uint64_t now_cycles;
	uint64_t sent_bytes;  /* that it has taken so far, all frames */
	uint64_t told_cycles; /* when it told what follows, by the clock of now_cycles */
	uint64_t left_bytes;  /* of these, what has left it */
	double held_bytes; /* of all frames made, what waits to leave; below 0: it tells neither */
	bool waiting;      /* frames wait for it */
	bool waited;       /* frames could wait nowhere any more, and the core with them */
	double pressure;   /* from -1 to 1, of what else the flow is held to; of a silent link:
			    * from -1, it is hungry, to 1, frames wait for it */
	uint64_t content_bytes; /* that frames were made of so far */
	uint64_t busy_cycles;   /* that it has cost the core so far, but for encoding */
	double target_busy; /* share of its time that the target's core had work; 0: not known */
};

struct choose {
	unsigned n; /* options; 0 is raw: no cycles, ratio 1 */
	struct choose_cost cost[CHOOSE_KINDS][CHOOSE_OPTIONS];
	double slow;              /* times of the costs' cycles that the core takes now */
	double other_cycles;      /* a byte of content, of the core beside encoding */
	double mix[CHOOSE_KINDS]; /* shares of the last frames that were looked at */
	double price;             /* cycles a byte */
	double least;             /* a price below makes raw the choice for all kinds */
	uint64_t priced_cycles;   /* when it was reckoned */
	unsigned priced;          /* times it was */

	struct choose_link link; /* at the frame before; its pressure: as the price takes it */
	double buffer_bytes;     /* what the link holds when frames wait for it */
	double enough_bytes;     /* held by a link that tells, as much as is wanted */
	double frame_bytes;      /* of the last frame that was chosen for, on the wire */
	double held_bytes;       /* that the link has before it is idle, about */
	double drain;            /* bytes a cycle; 0: not known yet */
	double drained_cycles;   /* that it is an average over, where the link tells */
	struct choose_link told; /* at the first frame after it told last */
	struct choose_link left; /* when it was last held against what had left meanwhile */
	bool backlog;            /* there was one at some time since; of a silent one: then */
	struct choose_link core; /* when it was last learned what the core does beside encoding */

	struct choose_link target; /* when what follows was learned last */
	double times; /* that the target takes of what decoding is assumed to; 0: not known */
	double placed_cycles; /* assumed of the frames that it has answered since */

	double trial_cycles;   /* that may go into trying what was not chosen */
	unsigned trial_option; /* tried last */
};

/* assumed: what the options cost before anything is known, raw first; n: 1 to CHOOSE_OPTIONS. */
void choose_init(
	struct choose *c, const struct choose_cost *assumed, unsigned n, uint64_t buffer_bytes);

/* Whether a link that tells holds as much as is of use: then no frame is to be made now. */
bool choose_full(const struct choose *c, double held_bytes);

/* Before each frame. Returns whether choose_pick() is to be asked; if not, the frame goes raw. */
bool choose_look(struct choose *c, const struct choose_link *link);

/* The kind of what the segments hold, by 1 KiB of its bytes from all over it: text, or how uneven
 * they are. */
unsigned choose_kind(const struct iovec *seg, unsigned nseg, size_t bytes);

/* The option for a frame of so many bytes of content. */
unsigned choose_pick(struct choose *c, unsigned kind, size_t bytes);

/* The target has answered frames of so many bytes of content, by this option or one that decodes
 * like it. */
void choose_placed(struct choose *c, unsigned option, size_t bytes);

/* What it took: the cycles, and the bytes that go on the wire (as many as came in: no gain). */
void choose_learn(struct choose *c, unsigned kind, unsigned option, size_t in_bytes,
	size_t out_bytes, uint64_t cycles);

#endif
