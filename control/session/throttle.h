/* SPDX-License-Identifier: BSD-3-Clause */
/* --throttle: the guest is slowed down where its passes do not converge. At the source. */
#ifndef GODWIT_CONTROL_THROTTLE_H
#define GODWIT_CONTROL_THROTTLE_H

#include "converge.h"

struct session;

/* Asks the VMM whether it can, where the operator wants it, and ends the stage. */
void throttle_try(struct session *s);
/* A live pass was looked at. */
void throttle_decide(
	struct session *s, const struct converge_limits *l, const struct converge_facts *f);
/* The vCPUs get all of their time back. */
void throttle_lift(struct session *s);

#endif
