/* SPDX-License-Identifier: BSD-3-Clause */
/* The decision at the start of each pass: go on, pause and finish, or give up. Pure. */
#ifndef GODWIT_CONTROL_CONVERGE_H
#define GODWIT_CONTROL_CONVERGE_H

#include <stdbool.h>
#include <stdint.h>

enum converge_timeout { CONVERGE_ABORT, CONVERGE_PAUSE };

/* What the operator wants; may change while the session runs. */
struct converge_limits {
	uint64_t downtime_ns;             /* longest expected pause */
	uint32_t max_passes;              /* live passes; 0: no limit */
	uint64_t max_time_ns;             /* since the session began; 0: no limit */
	enum converge_timeout on_timeout; /* what to do at max_passes or max_time */
};

/* What is known now. */
struct converge_facts {
	uint32_t passes;      /* live passes finished */
	uint64_t elapsed_ns;  /* since the session began */
	uint64_t dirty_pages; /* to be sent next */
	uint64_t pages_per_s; /* achieved in the last pass that moved enough to tell; 0: unknown */
	uint64_t overhead_ns; /* expected pause with nothing dirty: pause, save, load, resume */
	bool untold;          /* much of the balloon's bitmap is still on its way */
};

enum converge_what { CONVERGE_GO_ON, CONVERGE_SWITCH, CONVERGE_GIVE_UP };

struct converge_decision {
	enum converge_what what;
	uint64_t expected_pause_ns;
	const char *reason; /* static text for the report and the log */
};

struct converge_decision converge_decide(
	const struct converge_limits *l, const struct converge_facts *f);

/* How far the guest is slowed down, so that passes converge. */
struct converge_throttle {
	unsigned percent;     /* of their time that its vCPUs have; 100: all */
	unsigned stuck;       /* live passes in a row that had hardly less to send than the last */
	uint64_t dirty_pages; /* that the last pass had to send */
};

/* A live pass was looked at. Where passes do not converge and the pause would be too long, percent
 * goes down a step, to `least` (1 to 100) at the least. True: it did. It never goes up. */
bool converge_throttle(struct converge_throttle *t, unsigned least, const struct converge_limits *l,
	const struct converge_facts *f);

/* How the copying goes just now. */
struct converge_pace {
	uint64_t pages_left; /* of this pass */
	double pages_per_s;  /* moved */
	bool dirty_known;
	double dirty_per_s; /* distinct pages that the guest writes */
	uint64_t overhead_ns;
};

/* What comes if it goes on like that; UINT64_MAX: not known, or never. */
struct converge_forecast {
	uint64_t pass_ns;  /* from now until this pass ends */
	uint64_t end_ns;   /* from now until the guest runs at the target */
	uint64_t pause_ns; /* the length of its pause */
};

struct converge_forecast converge_forecast(
	const struct converge_limits *l, const struct converge_pace *p);

#endif
