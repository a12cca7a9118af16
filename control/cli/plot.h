/* SPDX-License-Identifier: BSD-3-Clause */
/* Pictures of a recorded migration, by gnuplot. A record is not trusted: what it holds becomes
 * numbers, and words that can't leave their quotes. */
#ifndef GODWIT_CONTROL_PLOT_H
#define GODWIT_CONTROL_PLOT_H

#include <jansson.h>
#include <stdio.h>

#include "err.h"

#define PLOT_LINE_BYTES (1u << 20) /* of a record, at most */
#define PLOT_FLOWS      64u

/* A record, in memory. */
struct plot_record {
	json_t *head;     /* its first line */
	json_t *progress; /* arrays of events, in order; of a target these are "placing" */
	json_t *passed;
	json_t *pass;
	json_t *stages;
	json_t *end; /* NULL: the record ends before the migration did */
};

/* 0, or -errno with e set: FILE:LINE: what is wrong. fini in any case. */
int plot_read(struct plot_record *r, const char *path, struct err *e);
void plot_fini(struct plot_record *r);

/* The script that makes one picture, on standard output; terminal: "svg" or "png". */
void plot_script(const struct plot_record *r, FILE *out, const char *terminal);

/* Makes STEM.svg and STEM.png of a record. 0 or -errno with e set. */
int plot_make(const char *path, const char *stem, struct err *e);

#endif
