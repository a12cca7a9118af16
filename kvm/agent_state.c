// SPDX-License-Identifier: BSD-3-Clause
// The transition table of a guest under migration (law 6). Pure; run by the agent's thread.

#include "agent_state.h"

#include "agent_proto.h"

#include <errno.h>

#define IN(s)  (1u << GODWIT_##s)
#define ALL    (IN(RUNNING) | IN(PAUSED) | IN(FENCED) | IN(INCOMING) | IN(LOADED))
#define SOURCE (IN(RUNNING) | IN(PAUSED))
#define STAYS  (-1)

/* from: states in which it is done; same: states in which it is so already. */
static const struct {
	const char *what;
	unsigned from, same;
	int to;
} table[AGENT_TYPES] = {
	[AGENT_HELLO] = {"hello", ALL, 0, STAYS},
	[AGENT_REGION] = {"give a region", ALL, 0, STAYS},
	[AGENT_TRACK_START] = {"start tracking", SOURCE, 0, STAYS},
	[AGENT_TRACK_STOP] = {"stop tracking", ALL, 0, STAYS},
	[AGENT_LOOK] = {"look", SOURCE, 0, STAYS},
	[AGENT_ARM] = {"arm", SOURCE, 0, STAYS},
	[AGENT_PUT_BACK] = {"put back", SOURCE, 0, STAYS},
	[AGENT_PAUSE] = {"pause", IN(RUNNING), IN(PAUSED), GODWIT_PAUSED},
	[AGENT_RESUME] = {"resume", IN(PAUSED) | IN(FENCED) | IN(LOADED), IN(RUNNING),
		GODWIT_RUNNING},
	[AGENT_THROTTLE] = {"throttle", SOURCE, 0, STAYS},
	[AGENT_SAVE] = {"save device state", IN(PAUSED), 0, STAYS},
	[AGENT_LOAD] = {"load device state", IN(INCOMING) | IN(LOADED), 0, GODWIT_LOADED},
	[AGENT_FENCE] = {"fence", IN(PAUSED), IN(FENCED), GODWIT_FENCED},
	[AGENT_END] = {"end", IN(FENCED) | IN(INCOMING) | IN(LOADED), 0, GODWIT_ENDED},
	[AGENT_HINTS] = {"tell hints", ALL, 0, STAYS},
	[AGENT_FREE] = {"ask for free pages", SOURCE, 0, STAYS},
	[AGENT_FREE_LOOK] = {"take free pages", SOURCE, 0, STAYS},
	[AGENT_BALLOON] = {"take the balloon over", IN(INCOMING) | IN(LOADED), 0, STAYS},
	[AGENT_PING] = {"ping", ALL, 0, STAYS},
};

enum agent_verdict agent_state_check(enum godwit_state now, unsigned type, unsigned long long a,
	enum godwit_state *next, struct err *e)
{
	if (type >= AGENT_TYPES || table[type].what == NULL) {
		err_set(e, EPROTO, "there is no request of type %u", type);
		return AGENT_REFUSE;
	}
	if (table[type].same & 1u << now)
		return AGENT_SAME;
	if ((table[type].from & 1u << now) == 0) {
		err_set(e, EPERM, "cannot %s: the guest is %s", table[type].what,
			agent_state_name(now));
		return AGENT_REFUSE;
	}
	if (type == AGENT_RESUME && now == GODWIT_FENCED && a != 1) {
		err_set(e, EPERM,
			"cannot resume: the guest is fenced, and nobody confirmed that it does not "
			"run elsewhere");
		return AGENT_REFUSE;
	}
	*next = table[type].to == STAYS ? now : (enum godwit_state)table[type].to;
	return AGENT_DO;
}

enum godwit_state agent_state_eof(enum godwit_state now, bool *resume)
{
	*resume = now == GODWIT_PAUSED;
	if (now == GODWIT_PAUSED)
		return GODWIT_RUNNING;
	return now == GODWIT_LOADED ? GODWIT_INCOMING : now;
}

const char *agent_state_name(enum godwit_state s)
{
	static const char *const names[] = {
		[GODWIT_RUNNING] = "running",
		[GODWIT_PAUSED] = "paused",
		[GODWIT_FENCED] = "fenced",
		[GODWIT_INCOMING] = "waiting for a guest",
		[GODWIT_LOADED] = "loaded",
		[GODWIT_ENDED] = "ended",
	};

	return names[s];
}
