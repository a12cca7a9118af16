/* SPDX-License-Identifier: BSD-3-Clause */
/* A flow in the simulated network: a source that has frames to send, pass by pass, a target that
 * places them, and the checks: every byte right, every frame once, sums that agree. */
#ifndef GODWIT_TESTS_SIM_END_H
#define GODWIT_TESTS_SIM_END_H

#include "net.h"
#include "rel_recv.h"
#include "rel_send.h"

struct end_plan {
	struct rel_config cfg;
	unsigned passes;
	uint64_t frames;     /* in a pass */
	uint64_t begin_ns;   /* after the simulation's begin */
	bool large;          /* whole raw chunks only */
	bool idle;           /* nothing is ever sent */
	uint64_t place_ns;   /* the target takes this for a frame, at most */
	uint32_t tear, drop; /* parts of 65536 that the target refuses, or drops unanswered */
	uint64_t poll_ns;    /* both cores look only so often */
	/* Both cores are shared: in each period they get one slice, somewhere, and now and then
	 * lose it between making packets and giving them to the device. 0: they are not. */
	uint64_t period_ns, slice_ns;
	unsigned ring; /* packets that wait for a core, at most; more are lost. 0: no bound */
};

#define END_BUSY 201 /* what each target tells of its core */

enum end_side { END_SOURCE, END_TARGET };

struct end {
	struct net *net;
	struct net_wire *there, *back;
	struct end_plan plan;
	struct rel_send send;
	struct rel_recv recv;
	void *send_mem, *recv_mem;
	uint8_t *ring;

	/* source */
	uint32_t pass;
	uint64_t in_pass, frames, sum, torn, torn_sum, lost;
	bool barrier_out, finished;
	uint64_t send_timer_ns;
	/* target; by seq */
	uint32_t recv_pass;
	uint64_t placed, placed_sum, refused;
	uint64_t first_of_pass, taken;
	bool placing;
	uint64_t placing_seq;
	uint64_t recv_timer_ns;
	/* frames of the pass under way, by seq - first */
	struct end_frame {
		uint64_t seq;
		uint32_t hdr_crc;
		uint32_t payload_bytes;
		uint8_t taken, answer;
	} * log;
	uint64_t nlog;

	unsigned waiting[2]; /* packets in the device of a side */
	/* By side: a core that was taken away in the middle of a turn, when, and until when. */
	uint64_t left_ns[2], back_ns[2];
	uint64_t seed; /* of the slices */

	uint64_t goodput_bytes; /* of payload placed */
	uint64_t began_ns, ended_ns;
	char wrong[160]; /* what was not as it should be; empty: nothing */
};

void end_init(struct end *e, struct net *n, struct net_wire *there, struct net_wire *back,
	const struct end_plan *p);
void end_free(struct end *e);
/* Nothing more will happen: finished, or something went wrong. */
bool end_over(const struct end *e);

/* For the two ends. */
void end_wrong(struct end *e, const char *what, uint64_t seq);
uint8_t *end_payload(uint64_t seq); /* what frame seq carries; FRAME_PAYLOAD_BYTES of it */
struct end_frame *end_log(struct end *e, uint64_t seq);
/* When a core that looks only so often sees what happens at that time. */
uint64_t end_when(const struct end *e, enum end_side side, uint64_t at_ns);
/* A core is about to do something now. */
void end_wake(struct end *e, enum end_side side);
/* A datagram came to a core's device: hands it to fn when the core looks. */
void end_arrive(struct end *e, enum end_side side, struct datagram *d, net_fn fn);
void end_put_out(struct end *e, enum end_side side, struct rel_out *o);
void end_run_send(struct end *e);
void end_run_recv(struct end *e);
void end_recv_in(void *arg, struct datagram *d); /* a datagram comes to the target */
void end_send_in(void *arg, struct datagram *d);

#endif
