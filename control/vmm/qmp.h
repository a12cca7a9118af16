/* SPDX-License-Identifier: BSD-3-Clause */
/* A QMP monitor of a QEMU, asked by one thread, which waits for each answer (never the control
 * loop). Bounded in bytes and time: a monitor that is silent, or speaks nonsense, is given up, and
 * everything asked of it from then on fails with the same sentence. */
#ifndef GODWIT_CONTROL_QMP_H
#define GODWIT_CONTROL_QMP_H

#include <jansson.h>
#include <stdbool.h>

#include "err.h"

struct qmp;

/* An event; data is borrowed, or NULL. Called from within the functions below. */
typedef void (*qmp_event_fn)(void *arg, const char *event, const json_t *data);

/* A socket connected to a monitor's, not blocking; fd or -errno with e set. */
int qmp_connect(const char *path, struct err *e);
/* Connects to a monitor's socket, reads its greeting and leaves the negotiation. timeout_ms: for
 * this, and for each answer later. cancel_fd (or -1): an eventfd; once it is readable, waiting ends
 * with -ECANCELED. 0 or -errno with e set. */
int qmp_open(struct qmp **q, const char *path, unsigned timeout_ms, int cancel_fd, struct err *e);
/* Takes over a socket on which another program has spoken already: no greeting comes, and answers
 * to others are passed over. NULL: out of memory, and fd stays the caller's. */
struct qmp *qmp_adopt(int fd, unsigned timeout_ms);
void qmp_close(struct qmp *q); /* NULL is allowed */

void qmp_on_event(struct qmp *q, qmp_event_fn fn, void *arg);
/* What must be done for QEMU to be able to answer. fn: called while an answer is waited for and one
 * of fd (-1: none) is readable, until it takes that away; true: something moved, and the time for
 * the answer begins anew. */
struct qmp_meanwhile {
	int fd[2];
	bool (*fn)(struct qmp_meanwhile *m);
};
/* m stays the caller's; NULL: nothing any more. */
void qmp_meanwhile(struct qmp *q, struct qmp_meanwhile *m);
/* How long answers are waited for from now on; 0: as before. Returns what it was. */
unsigned qmp_patience(struct qmp *q, unsigned timeout_ms);
int qmp_fd(const struct qmp *q);
/* From the greeting: 7.2.22 is 70222; 0 for an adopted one. */
unsigned qmp_version(const struct qmp *q);

/* Asks, and waits for the answer. arguments: its reference is stolen; NULL: none. answer: what the
 * command returned, a new reference; NULL: not wanted. 0, -EREMOTEIO (QEMU refused: e has its own
 * words, and the monitor goes on), or another -errno: the monitor is given up. */
int qmp_call(struct qmp *q, const char *command, json_t *arguments, json_t **answer, struct err *e);
/* The same, and fd goes along (getfd). */
int qmp_call_fd(struct qmp *q, const char *command, json_t *arguments, int fd, struct err *e);
/* qmp_human.c: a command of the human monitor: what it printed, for free(). */
int qmp_human(struct qmp *q, const char *line, char **text, struct err *e);
/* Takes in what has come, without waiting: events. 0, or -errno: given up. */
int qmp_poll(struct qmp *q, struct err *e);

#endif
