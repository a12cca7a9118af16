/* SPDX-License-Identifier: BSD-3-Clause */
/* The pure reader of a QMP monitor's output: where one message ends, and its JSON. A monitor sends
 * JSON objects with white space between them, on one line each or (pretty=on) on many. */
#ifndef GODWIT_CONTROL_QMP_SCAN_H
#define GODWIT_CONTROL_QMP_SCAN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

#define QMP_MESSAGE_BYTES (8u << 20) /* most of one message */
#define QMP_DEPTH         64u        /* nesting of one message */

/* How far a message was looked at; zeros to begin with, and after each message. */
struct qmp_scan {
	size_t at; /* bytes looked at */
	unsigned depth;
	bool in_text, escaped;
};

/* Looks at buf, which holds len bytes from the first one not yet taken. Returns the bytes up to the
 * end of the first object, 0 when more are needed, -EPROTO with e set where no message begins, or
 * where it nests too deep or is too long. */
int64_t qmp_scan(struct qmp_scan *s, const char *buf, size_t len, struct err *e);

/* The object of a message that qmp_scan() measured. New reference, or NULL with e set. */
json_t *qmp_scan_json(const char *buf, size_t len, struct err *e);

#endif
