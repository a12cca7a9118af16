/* SPDX-License-Identifier: BSD-3-Clause */
/* A few words with a VMM that has no session any more: what a former daemon left, and what the
 * operator decided about it. */
#ifndef GODWIT_CONTROL_SETTLE_H
#define GODWIT_CONTROL_SETTLE_H

#include <stdbool.h>

#include "err.h"
#include "vmm_where.h"

enum settle_what {
	SETTLE_NOTHING, /* no word at all */
	SETTLE_LOOK,    /* what is the VMM's state? */
	SETTLE_FIND,    /* the same; a guest that runs here already gets its disks back */
	SETTLE_GONE,    /* the target took the guest, for certain: a source's VMM ends if it can */
	SETTLE_KEEP,    /* the guest goes on here */
	SETTLE_END,     /* the guest goes on elsewhere: the VMM ends */
};

struct settle {
	struct vmm_where where;
	enum settle_what what;
	bool source;       /* the guest came from this VMM, else it was to come to it */
	bool stays_paused; /* nobody is to resume it */
	json_t *direct;    /* as in struct vmm; the caller's. NULL: none */
	/* Answers. */
	int found;      /* 0, or -errno: no VMM, or it does not answer */
	unsigned state; /* enum godwit_state, before anything was asked for */
	int status;     /* of the whole: 0, or -errno with why set */
	struct err why;
	struct err warn; /* what went wrong besides; errnum 0: nothing */
};

/* Blocks for up to some seconds (a QEMU is asked several times): for a thread beside the control
 * loop. Touches nothing but *s. */
void settle_run(struct settle *s);

/* "running", "fenced", ... or "gone, or not answering". */
const char *settle_here(const struct settle *s);

#endif
