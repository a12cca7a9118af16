/* SPDX-License-Identifier: BSD-3-Clause */
/* Flows over one simulated bottleneck, watched for a while: what sim_shape.c and sim_life.c
 * measure. */
#ifndef GODWIT_TESTS_SIM_SHAPE_H
#define GODWIT_TESTS_SIM_SHAPE_H

#include "end.h"

#define FLOWS_MOST 8u

struct shape {
	uint64_t bytes_per_s;
	uint64_t delay_ns; /* one way */
	uint64_t queue_bytes;
	uint32_t mtu, lose; /* lose in parts of 65536, there and back */
	uint64_t poll_ns, jitter_ns;
	unsigned flows;
	uint64_t apart_ns;              /* between their begins */
	uint64_t watch_ns, duration_ns; /* measured from, until; after the begin of the last one */
	uint64_t period_ns, slice_ns;   /* the cores are shared */
	uint64_t target_ns, pto_ns;     /* 0: as they are for cores that are not */
	uint64_t mark_bytes;            /* the network marks above; 0: never */
};

struct result {
	double goodput[FLOWS_MOST]; /* bytes a second */
	double sum;
	double most_queued_s, mean_queued_s; /* at the bottleneck's rate */
	double lost;
	char wrong[160];
};

extern bool shape_verbose;

void shape_plan(struct end_plan *p, const struct shape *s, unsigned i);
void shape_run_until(struct net *n, uint64_t until_ns);
struct result shape_run(const struct shape *s, uint64_t seed);
/* Says what is wrong, or, verbose, what is right too; returns how much is wrong. */
unsigned shape_check(bool ok, const char *what, double is, double need);

/* sim_life.c: how many things are wrong. */
unsigned sim_busy(void);
unsigned sim_life(void);

#endif
