/* SPDX-License-Identifier: BSD-3-Clause */
/* A token bucket over cycles: how many bytes a flow may put on the wire. Lcore only. */
#ifndef GODWIT_DATAPLANE_PACE_H
#define GODWIT_DATAPLANE_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace {
	uint64_t hz; /* cycles a second; set by pace_init() */
	uint64_t bytes_per_s;
	uint64_t then;      /* cycles at the last refill */
	int64_t left_bytes; /* may be below zero: a frame is never cut */
};

/* hz: clock_cycles_hz(). */
void pace_init(struct pace *p, uint64_t hz);

/* Whether bytes may go now, at a limit that may have changed since (0: none). */
bool pace_ready(struct pace *p, uint64_t bytes_per_s, uint64_t now_cycles);

/* After pace_ready(): from -1, nobody uses the limit, to 1, all of it is used. */
double pace_pressure(const struct pace *p, uint64_t bytes_per_s);

static inline void pace_spend(struct pace *p, uint64_t bytes)
{
	p->left_bytes -= (int64_t)bytes;
}

#endif
