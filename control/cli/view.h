/* SPDX-License-Identifier: BSD-3-Clause */
/* A running migration as a few lines for people, made from its events. Pure but for the printing;
 * trusts nothing about the objects. */
#ifndef GODWIT_CONTROL_VIEW_H
#define GODWIT_CONTROL_VIEW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#define VIEW_PASSES 8u /* shown; earlier ones are left out */
#define VIEW_CORES  16u

struct view {
	const char *name;
	json_t *state, *pass, *progress; /* the latest of each; NULL: none yet */
	json_t *passed;                  /* array: passes that have ended, as of "passed" events */
};

void view_init(struct view *v, const char *name);
void view_fini(struct view *v);
/* Takes an event in. True: the picture has changed. */
bool view_take(struct view *v, const json_t *event);
/* What was before it was followed: the daemon's answer to watch, with the session's status. */
void view_seed(struct view *v, const json_t *session);
/* Prints at most so many lines, of at most width columns; returns how many. */
unsigned view_print(const struct view *v, FILE *out, unsigned width, unsigned most);

/* ", ends in about 5 min, pause about 41 ms": what of it a progress tells; of the pass where the
 * end is not known. */
void view_put_forecast(FILE *out, const json_t *progress);
/* One line for a pass that has ended, without an end. */
void view_passed_line(FILE *out, const json_t *passed);

#endif
