/* SPDX-License-Identifier: BSD-3-Clause */
/* Options. One table for each program gives its command-line flags, the keys of its configuration
 * file, the fields of the API's requests, --help, and what the manual pages are checked against. */
#ifndef GODWIT_CONTROL_OPTION_H
#define GODWIT_CONTROL_OPTION_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "err.h"

#define OPTION_ROWS       48u  /* rows of one table, at most */
#define OPTION_TEXT_BYTES 256u /* of a value, with the NUL */

enum option_kind {
	OPTION_SWITCH, /* --name; name = yes|no */
	OPTION_TEXT,
	OPTION_PATH,   /* godwit makes it absolute for the daemon */
	OPTION_CHOICE, /* one of choices; number is its index */
	OPTION_COUNT,
	OPTION_BYTES,   /* "64M": K, M, G, T are powers of 1024 */
	OPTION_RATE,    /* bytes a second as OPTION_BYTES, or bits: "10Gbit" (powers of 1000) */
	OPTION_MS,      /* a time; a bare number is milliseconds. number is in ms */
	OPTION_SECONDS, /* a time; a bare number is seconds. number is in ms */
};

struct option_row {
	const char *name;
	const char *field; /* its name in an API request; NULL: not part of one */
	const char *arg;   /* what stands for the value in --help */
	enum option_kind kind;
	unsigned where; /* bits, by program: which sub-commands, or which sources */
	bool required;
	const char *one_of;   /* exactly one of the options with the same word is wanted */
	uint64_t min, max;    /* of number; max 0: no bound */
	const char *choices;  /* "abort|pause" */
	const char *offers;   /* the same for shells alone, where choices can't list all; or NULL */
	const char *fallback; /* value where none is given, as text; NULL: none */
	const char *help;
};

struct option_value {
	bool given; /* not the fallback */
	uint64_t number;
	char text[OPTION_TEXT_BYTES];
};

/* The options in force. rows ends with a row whose name is NULL. */
struct option_set {
	const struct option_row *rows;
	unsigned where; /* only rows with one of these bits are known */
	struct option_value v[OPTION_ROWS];
};

/* All fallbacks. */
void option_init(struct option_set *set, const struct option_row *rows, unsigned where);

/* Reads a value. 0 or -EINVAL, with e saying what is allowed. */
int option_parse(
	const struct option_row *row, const char *text, struct option_value *v, struct err *e);

/* Sets an option by name. -ENOENT: unknown; -EINVAL. text NULL: a switch without a value. */
int option_give(struct option_set *set, const char *name, const char *text, struct err *e);

/* Reads flags of a command line (argv[0] is looked at): "--name=value", "--name value", "--switch",
 * "-h"; "--" ends them. What is no flag goes to words, up to most. Returns how many words, or
 * -EINVAL with e set. */
int option_argv(
	struct option_set *set, int argc, char **argv, const char **words, int most, struct err *e);

/* Every required option was given? 0 or -EINVAL with e naming it. */
int option_complete(const struct option_set *set, struct err *e);

/* By name, which must be a row of the set's table. */
uint64_t option_number(const struct option_set *set, const char *name);
const char *option_text(const struct option_set *set, const char *name);
bool option_given(const struct option_set *set, const char *name);

/* Lists the options with their defaults. dashes: "--", or "" for keys of a file. */
void option_help(FILE *out, const char *dashes, const struct option_row *rows, unsigned where);

/* Adds each given option that has a field to a request. */
void option_to_json(const struct option_set *set, json_t *request);
/* Reads the fields of a request; "do" and "name" are left to the caller. -EINVAL with e naming the
 * field that is unknown, of another kind, or out of bounds. */
int option_from_json(struct option_set *set, json_t *request, struct err *e);

/* The tables. godwit's where: 1u << enum command. */
extern const struct option_row option_godwit[];
enum { OPTION_FLAG = 1, OPTION_FILE = 2 }; /* godwitd's where: command line, configuration file */
extern const struct option_row option_godwitd[];
enum { OPTION_PORT = 4 }; /* keys of a [port NAME] section */
extern const struct option_row option_port[];

#endif
