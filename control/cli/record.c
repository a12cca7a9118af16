// SPDX-License-Identifier: BSD-3-Clause
// The record of a migration. Run by godwit's only thread. A file that can't be written is told at
// the end: the migration does not wait for it.

#include "record.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "report.h"

struct record {
	FILE *file;
	const char *path;
	uint64_t began_ns;
};

static void put(struct record *r, json_t *line)
{
	json_dumpf(line, r->file, JSON_COMPACT);
	fputc('\n', r->file);
	json_decref(line);
}

int record_open(struct record **out, const char *path, const char *name, struct err *e)
{
	struct record *r = calloc(1, sizeof(*r));
	char at[32] = "";
	time_t now = time(NULL);
	struct tm tm;

	if (r == NULL)
		return err_set(e, ENOMEM, "no memory for a record");
	r->file = fopen(path, "we");
	if (r->file == NULL) {
		free(r);
		return err_sys(e, errno, "cannot write the record %s", path);
	}
	r->path = path;
	r->began_ns = clock_ns();
	strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	put(r, json_pack("{s:s, s:f, s:i, s:s, s:s, s:s}", "event", "record", "t_ms", 0.0,
		       "version", RECORD_VERSION, "godwit", GODWIT_VERSION, "name", name, "at",
		       at));
	*out = r;
	return 0;
}

/* A pass as an event that was before the record began. */
static void put_before(struct record *r, const char *what, const json_t *session, json_t *pass)
{
	json_t *event = json_pack("{s:s, s:f, s:s}", "event", what, "t_ms", 0.0, "name",
		report_text(session, "name"));

	json_object_update_missing(event, pass);
	put(r, event);
}

void record_session(struct record *r, const json_t *session)
{
	json_t *before = json_object_get(json_object_get(session, "report"), "passes_detail");
	json_t *now = json_object_get(session, "under_way"), *pass;
	size_t i;

	if (r == NULL)
		return;
	json_array_foreach(before, i, pass) put_before(r, "passed", session, pass);
	if (json_is_object(now))
		put_before(r, "pass", session, now);
}

void record_event(struct record *r, const json_t *event)
{
	json_t *line;

	if (r == NULL)
		return;
	line = json_pack("{s:f}", "t_ms", (double)(clock_ns() - r->began_ns) / 1e6);
	json_object_update_missing(line, (json_t *)event);
	put(r, line);
	/* Progress may wait: a terminal that closes costs no more than some of it. */
	if (strcmp(report_text(event, "event"), "progress") != 0)
		fflush(r->file);
}

int record_close(struct record *r, struct err *e)
{
	bool bad;
	int rc = 0;

	if (r == NULL)
		return 0;
	errno = 0;
	bad = ferror(r->file) != 0;
	if (fclose(r->file) != 0 || bad)
		rc = err_sys(e, errno != 0 ? errno : EIO, "the record %s is not whole", r->path);
	free(r);
	return rc;
}
