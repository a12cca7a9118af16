/* SPDX-License-Identifier: BSD-3-Clause */
/* What godwit prints for people: the report at the end, the state of sessions and of the daemon. */
#ifndef GODWIT_CONTROL_REPORT_H
#define GODWIT_CONTROL_REPORT_H

#include <jansson.h>
#include <stdio.h>

/* The report of an "end" event or of a status. Members that are absent are left out. */
void report_print(FILE *out, const json_t *report);
/* One session as status shows it. */
void report_session(FILE *out, const json_t *session);
/* All sessions, one line each. */
void report_list(FILE *out, const json_t *sessions);
/* The daemon as status shows it. */
void report_daemon(FILE *out, const json_t *daemon);

/* Members by name; the fallback where they are absent or of another kind. */
const char *report_text(const json_t *o, const char *key); /* fallback "" */
double report_number(const json_t *o, const char *key);    /* fallback 0 */

#endif
