/* SPDX-License-Identifier: BSD-3-Clause */
/* The source's half of a flow. */
#ifndef GODWIT_DATAPLANE_SEND_H
#define GODWIT_DATAPLANE_SEND_H

#include "flow.h"
#include "pace.h"
#include "pack.h"

/* What went out in this pass, and what became of it. */
struct send_sums {
	uint64_t frames, sum;
	uint64_t torn, torn_sum;
	uint64_t lost; /* no answer: they may have been placed or not */
};

struct send {
	struct flow *flow;
	struct send_job *job;
	uint64_t turn_bytes; /* of content packed in one turn, about */
	uint64_t out_bytes;  /* of content in this turn so far */

	bool running; /* pass has begun and its barrier was not answered */
	bool barrier; /* the link has it */
	uint32_t pass;
	struct send_sums sums;

	struct span span; /* [span_at, nchunks) of it are to be packed */
	unsigned span_at;

	struct pace pace;
	struct pack pack;
};

int send_new(struct flow *f, struct send_job *job, int node, struct err *e);
void send_free(struct send *s);
/* True when something moved. */
bool send_turn(struct send *s);

#endif
