/* SPDX-License-Identifier: BSD-3-Clause */
/* godwit while a session runs: prints its events, and turns the last one into an exit code. */
#ifndef GODWIT_CONTROL_GODWIT_FOLLOW_H
#define GODWIT_CONTROL_GODWIT_FOLLOW_H

#include <stdbool.h>

#include "godwit_client.h"

/* Exit codes; godwit(1) explains them. */
enum godwit_exit {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_UNDECIDED = 3,
	EXIT_NO_DAEMON = 4,
	EXIT_REFUSED = 5,
	EXIT_CANCELLED = 6,
};

struct record;

struct godwit_follow_how {
	bool json;             /* prints events as they come, one a line */
	struct record *record; /* where they go too; NULL: nowhere */
	const json_t *session; /* its status when it was begun to follow; NULL: it is new */
};

/* Reads events until "end". */
enum godwit_exit godwit_follow(
	struct godwit_client *c, const char *name, const struct godwit_follow_how *how);

#endif
