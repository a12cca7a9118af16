/* SPDX-License-Identifier: BSD-3-Clause */
/* The journal: what this daemon has promised, one file a session, one JSON object a line, each
 * synced to disk before journal_write() returns. A restarted daemon reads it before it serves
 * anybody. Control loop only. */
#ifndef GODWIT_CONTROL_JOURNAL_H
#define GODWIT_CONTROL_JOURNAL_H

#include <jansson.h>

#include "err.h"

#define JOURNAL_SUFFIX    ".journal"
#define JOURNAL_NAME_MOST 63         /* characters of a session's name */
#define JOURNAL_BYTES_MAX (16 << 20) /* a file that is longer is no journal */

struct journal;

/* Is it a good name for a session: letters, digits . _ -, a letter, digit or _ first, up to 63?
 * 0 or -EINVAL with e set. */
int journal_name_check(const char *name, struct err *e);

/* Creates dir/NAME.journal. -EEXIST: an unresolved one is
 * there, and e says to run `godwit resolve NAME`. */
int journal_open(struct journal **j, const char *dir, const char *name, struct err *e);
/* Opens an existing one for appending. */
int journal_reopen(struct journal **j, const char *dir, const char *name, struct err *e);
/* Appends and syncs (fdatasync; the directory too after the first). msg's reference is stolen.
 * -errno, with e naming the file and the cure: nothing was promised then. */
int journal_write(struct journal *j, json_t *msg, struct err *e);
/* Appends without a sync: for what only matters while this host is up. */
int journal_note(struct journal *j, json_t *msg, struct err *e);
/* The session is over with nothing left to decide: removes the file. */
void journal_end(struct journal *j);
/* Closes and leaves the file. NULL is allowed. */
void journal_close(struct journal *j);

/* Calls fn for each journal of dir with its records, an array in order (a torn last line is left
 * out; any other line that can't be read is {"damaged": line number}: it may have been any
 * promise). fn may end that journal. Creates dir if it is not there. */
typedef void (*journal_fn)(void *arg, const char *name, json_t *records);
int journal_scan(const char *dir, journal_fn fn, void *arg, struct err *e);

#endif
