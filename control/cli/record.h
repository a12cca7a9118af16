/* SPDX-License-Identifier: BSD-3-Clause */
/* The record of a migration: its events as lines of JSON in a file, each with t_ms, the time since
 * the record began; see godwit-events(5). */
#ifndef GODWIT_CONTROL_RECORD_H
#define GODWIT_CONTROL_RECORD_H

#include <jansson.h>

#include "err.h"

#define RECORD_VERSION 1

struct record;

/* Begins a record in a new file, or in the place of one. 0 or -errno with
 * e set. */
int record_open(struct record **r, const char *path, const char *name, struct err *e);
/* What the migration did before it was followed; NULL: nothing. */
void record_session(struct record *r, const json_t *session);
/* r NULL: does nothing. */
void record_event(struct record *r, const json_t *event);
/* 0, or -errno with e set: not all of it could be written. NULL is allowed. */
int record_close(struct record *r, struct err *e);

#endif
