/* SPDX-License-Identifier: BSD-3-Clause */
/* The target's half of a flow. */
#ifndef GODWIT_DATAPLANE_RECV_H
#define GODWIT_DATAPLANE_RECV_H

#include "flow.h"

struct recv {
	struct flow *flow;
	struct recv_job *job;
	struct codec *codec[CODEC_IDS];
	uint8_t *pages; /* CHUNK_BYTES: what a codec made of a payload */

	uint32_t pass;              /* frames of this one are placed */
	uint64_t placed, sum, torn; /* in it */
	bool answering;             /* the barrier of pass - 1 waits for its holes: */
	uint64_t ticket;            /* these */
	struct frame barrier;       /* its answer */
	bool has_answer;
	struct frame answer; /* to be given to the link, while has_answer */

	bool moved; /* in this turn */
	struct link_sink sink;

	bool has_frame; /* rx is to be handled; the link is not polled meanwhile */
	struct link_rx rx;
	bool placing;          /* rx passed all checks, */
	uint32_t place_at;     /* place_frame() is to go on here, */
	const uint8_t *source; /* with these pages */
};

int recv_new(struct flow *f, struct recv_job *job, int node, struct err *e);
void recv_free(struct recv *r);
/* For links that place parts: struct link_sink. */
uint8_t *recv_begin(void *arg, const struct frame *f);
bool recv_came(void *arg, const struct frame *f);
/* True when something moved. */
bool recv_turn(struct recv *r);

#endif
