/* SPDX-License-Identifier: BSD-3-Clause */
/* `godwit doctor`: what this host has for migrations, and what to change. A table of checks
 * (doctor_table[] in doctor.c); each looks at one thing and adds rows, and none changes anything.
 * It works without a daemon. To add a check: a function in doctor_NOUN.c, and its row. */
#ifndef GODWIT_CONTROL_DOCTOR_H
#define GODWIT_CONTROL_DOCTOR_H

#include <jansson.h>
#include <stdbool.h>

#include "option.h"

enum doctor_verdict {
	DOCTOR_NOTE,    /* a fact */
	DOCTOR_GOOD,    /* as it should be */
	DOCTOR_ADVICE,  /* works; could be faster or disturb less */
	DOCTOR_PROBLEM, /* keeps migrations, or a way of doing them, from working */
	DOCTOR_VERDICTS
};

struct doctor {
	const char *sys;                  /* "/sys", or a test's folder */
	const char *proc;                 /* "/proc" */
	const struct option_set *options; /* of godwit doctor; NULL in tests */
	json_t *daemon;                   /* what godwitd says of itself; NULL: it does not run */
	json_t *rows;
	const char *group; /* of the check that runs */
	unsigned count[DOCTOR_VERDICTS];
};

/* A row: subject ("eth0", "node 0"), what was found, and what to do about it (NULL: nothing). */
void doctor_row(struct doctor *d, enum doctor_verdict v, const char *subject, const char *cure,
	const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* The checks. */
void doctor_daemon(struct doctor *d);
void doctor_cores(struct doctor *d);
void doctor_memory(struct doctor *d);
void doctor_net(struct doctor *d);
void doctor_rdma(struct doctor *d);
void doctor_kernel(struct doctor *d);
void doctor_qemu(struct doctor *d); /* --qmp only */

/* Runs all checks; then prints the rows, or one JSON object: rows, problems, advice, daemon. */
void doctor_run(struct doctor *d);
void doctor_print(const struct doctor *d, bool json);

#endif
