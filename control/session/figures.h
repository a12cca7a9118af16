/* SPDX-License-Identifier: BSD-3-Clause */
/* What a session has counted and timed, for its report, its events and its decisions. Control loop
 * only. */
#ifndef GODWIT_CONTROL_FIGURES_H
#define GODWIT_CONTROL_FIGURES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "session.h"
#include "stats.h"

/* Figures of the report. */
struct session_figures {
	uint64_t began_ns, ended_ns;
	uint64_t copy_began_ns, copy_ended_ns; /* first look to last barrier */
	uint64_t pause_began_ns, pause_ns;     /* asking to pause until the target said running */
	uint64_t populated_bytes, skipped_pages;
	uint64_t balloon_pages, free_pages; /* left out at the end of the last pass */
	uint64_t balloon_bytes;             /* of its bitmap on the wire */
	uint64_t balloon_paused_bytes;      /* of those, while the guest was paused */
	uint64_t pages_per_s;               /* of the last pass that moved enough to tell */
	uint64_t pass_began_ns;
	uint64_t state_bytes;
	uint64_t verified_pages, verify_ns;
	uint64_t stats[STATS];      /* sum over flows */
	uint64_t stats_gone[STATS]; /* of those, of flows that a lost network ended */
	unsigned reconnects;
	unsigned begun; /* passes that went to the flows; their numbers may have gaps */
	json_t *passes; /* array, one object a pass */
	json_t *pass;   /* the event of the one under way; NULL: none */
};

/* What was seen when the last event of progress.c went out. Its own copies: others look at the
 * counters at any time. */
#define PROGRESS_CYCLES (STAT_cycles_idle + 1 - STAT_cycles_claim)
struct session_seen {
	uint64_t at_ns, stats[STATS];
	uint64_t stall_ns;    /* when the vCPUs were looked at */
	uint64_t pass[STATS]; /* counters when the pass began */
	uint64_t cycles[SESSION_FLOWS][PROGRESS_CYCLES];
	uint64_t looked_ns, back_pages; /* when the last pass looked; what it put back */
	bool dirty_known;
	double dirty_per_s;
};

#endif
