/* SPDX-License-Identifier: BSD-3-Clause */
/* What a daemon may ask for in which state of the guest, and which state follows. Pure. */
#ifndef GODWIT_KVM_AGENT_STATE_H
#define GODWIT_KVM_AGENT_STATE_H

#include <stdbool.h>

#include "err.h"
#include "godwit.h"

enum agent_verdict {
	AGENT_DO,     /* do it; afterwards the state is *next */
	AGENT_SAME,   /* it is so already: answer 0, do nothing */
	AGENT_REFUSE, /* e says why */
};

/* a: the request's field, which confirms a resume from FENCED. */
enum agent_verdict agent_state_check(enum godwit_state now, unsigned type, unsigned long long a,
	enum godwit_state *next, struct err *e);

/* What end of file does: the state that follows; *resume: resume() must be called first. */
enum godwit_state agent_state_eof(enum godwit_state now, bool *resume);

const char *agent_state_name(enum godwit_state s);

#endif
