// SPDX-License-Identifier: BSD-3-Clause
// Reading option values from text and from the command line; --help. No state; used by both
// programs before and while they run.

#include "option.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

static const struct option_row *row_find(const struct option_set *set, const char *name)
{
	for (const struct option_row *r = set->rows; r->name != NULL; r++)
		if ((r->where & set->where) != 0 && strcmp(r->name, name) == 0)
			return r;
	return NULL;
}

/* Index of text among "a|b|c", or -1. */
static int choice_find(const char *choices, const char *text)
{
	size_t len = strlen(text);

	for (int i = 0; *choices != '\0'; i++) {
		size_t n = strcspn(choices, "|");

		if (n == len && memcmp(choices, text, n) == 0)
			return i;
		choices += n + (choices[n] == '|');
	}
	return -1;
}

static int parse_number(const struct option_row *row, const char *text, uint64_t *number)
{
	char *end;

	switch (row->kind) {
	case OPTION_BYTES:
		return unit_bytes(text, number);
	case OPTION_RATE:
		return unit_rate(text, number);
	case OPTION_MS:
		return unit_time(text, 1, number);
	case OPTION_SECONDS:
		return unit_time(text, 1000, number);
	default:
		if (text[0] == '\0' || strspn(text, "0123456789") != strlen(text) ||
			strlen(text) > 18)
			return -EINVAL;
		*number = strtoull(text, &end, 10);
		return 0;
	}
}

static const char *format_of(enum option_kind kind)
{
	switch (kind) {
	case OPTION_BYTES:
		return "a size such as 4096, 64K, 512M or 1.5G";
	case OPTION_RATE:
		return "a rate: bytes a second such as 500M or 1.2G, or bits such as 10Gbit";
	case OPTION_MS:
		return "a time: milliseconds, or such as 300ms or 2s";
	case OPTION_SECONDS:
		return "a time: seconds, or such as 90s, 5m or 1h";
	default:
		return "a whole number";
	}
}

int option_parse(
	const struct option_row *row, const char *text, struct option_value *v, struct err *e)
{
	int i;

	if (strlen(text) >= sizeof(v->text))
		return err_set(e, EINVAL, "%s: longer than %u characters", row->name,
			OPTION_TEXT_BYTES - 1);
	switch (row->kind) {
	case OPTION_SWITCH:
		i = choice_find("no|yes", text);
		if (i < 0)
			return err_set(
				e, EINVAL, "%s: '%.40s' is neither yes nor no", row->name, text);
		v->number = (uint64_t)i;
		break;
	case OPTION_TEXT:
	case OPTION_PATH:
		if (text[0] == '\0')
			return err_set(e, EINVAL, "%s: the value is empty", row->name);
		break;
	case OPTION_CHOICE:
		i = choice_find(row->choices, text);
		if (i < 0)
			return err_set(e, EINVAL, "%s: '%.40s' is not one of %s", row->name, text,
				row->choices);
		v->number = (uint64_t)i;
		break;
	default:
		if (parse_number(row, text, &v->number) < 0)
			return err_set(e, EINVAL, "%s: '%.40s' is not %s", row->name, text,
				format_of(row->kind));
		if (v->number < row->min || (row->max != 0 && v->number > row->max))
			return err_set(e, EINVAL, "%s: '%.40s' is not from %" PRIu64 " to %" PRIu64,
				row->name, text, row->min,
				row->max != 0 ? row->max : (uint64_t)INT64_MAX);
	}
	snprintf(v->text, sizeof(v->text), "%s", text);
	return 0;
}

void option_init(struct option_set *set, const struct option_row *rows, unsigned where)
{
	memset(set, 0, sizeof(*set));
	set->rows = rows;
	set->where = where;
	for (const struct option_row *r = rows; r->name != NULL; r++)
		if (r->fallback != NULL && (r->where & where) != 0 &&
			option_parse(r, r->fallback, &set->v[r - rows], NULL) < 0)
			abort(); /* a row that contradicts itself */
}

int option_give(struct option_set *set, const char *name, const char *text, struct err *e)
{
	const struct option_row *row = row_find(set, name);
	struct option_value *v;
	int rc;

	if (row == NULL)
		return err_set(e, ENOENT, "unknown option '%.60s'", name);
	if (text == NULL && row->kind != OPTION_SWITCH)
		return err_set(e, EINVAL, "%s: a value is missing, %s", name, row->arg);
	v = &set->v[row - set->rows];
	rc = option_parse(row, text ? text : "yes", v, e);
	if (rc == 0)
		v->given = true;
	return rc;
}

/* One flag at argv[0]; next is the argument after it, or NULL. Returns arguments used. */
static int give_flag(struct option_set *set, const char *flag, const char *next, struct err *e)
{
	const char *equals = strchr(flag, '=');
	const struct option_row *row;
	char name[64];
	int rc;

	snprintf(name, sizeof(name), "%.*s", equals ? (int)(equals - flag) : 60, flag);
	row = row_find(set, name);
	if (row == NULL)
		return err_set(e, EINVAL, "unknown option '--%s': see --help", name);
	if (equals != NULL || row->kind == OPTION_SWITCH) {
		rc = option_give(set, name, equals ? equals + 1 : NULL, e);
		return rc < 0 ? rc : 1;
	}
	rc = option_give(set, name, next, e);
	return rc < 0 ? rc : 2;
}

int option_argv(
	struct option_set *set, int argc, char **argv, const char **words, int most, struct err *e)
{
	bool flags = true;
	int n = 0;

	for (int i = 0; i < argc;) {
		const char *a = argv[i];
		int used = 1;

		if (flags && strcmp(a, "--") == 0)
			flags = false;
		else if (flags && strcmp(a, "-h") == 0)
			used = give_flag(set, "help", NULL, e);
		else if (flags && a[0] == '-' && a[1] == '-')
			used = give_flag(set, a + 2, i + 1 < argc ? argv[i + 1] : NULL, e);
		else if (flags && a[0] == '-' && a[1] != '\0')
			return err_set(e, EINVAL, "unknown option '%.40s': see --help", a);
		else if (n < most)
			words[n++] = a;
		else
			return err_set(e, EINVAL, "'%.60s' is one word too many: see --help", a);
		if (used < 0)
			return used;
		i += used;
	}
	return n;
}

/* Exactly one of the options that share r->one_of; told by the first of them. */
static int check_one_of(const struct option_set *set, const struct option_row *r, struct err *e)
{
	char names[128] = "";
	unsigned given = 0;
	size_t at = 0;

	for (const struct option_row *o = set->rows; o->name != NULL; o++) {
		if (o->one_of == NULL || strcmp(o->one_of, r->one_of) != 0 ||
			(o->where & set->where) == 0)
			continue;
		if (o < r)
			return 0;
		given += set->v[o - set->rows].given;
		if (at < sizeof(names))
			at += (size_t)snprintf(names + at, sizeof(names) - at, "%s--%s %s",
				at > 0 ? " or " : "", o->name, o->arg);
	}
	return given == 1 ? 0 : err_set(e, EINVAL, "%s: exactly one of these is wanted", names);
}

int option_complete(const struct option_set *set, struct err *e)
{
	for (const struct option_row *r = set->rows; r->name != NULL; r++)
		if (r->one_of != NULL && (r->where & set->where) != 0 &&
			check_one_of(set, r, e) < 0)
			return -EINVAL;
	for (const struct option_row *r = set->rows; r->name != NULL; r++)
		if (r->required && (r->where & set->where) != 0 && !set->v[r - set->rows].given)
			return err_set(
				e, EINVAL, "--%s %s is missing (%s)", r->name, r->arg, r->help);
	return 0;
}

static const struct option_value *value_of(const struct option_set *set, const char *name)
{
	const struct option_row *row = row_find(set, name);

	if (row == NULL)
		abort(); /* the caller asks for what its table does not have */
	return &set->v[row - set->rows];
}

uint64_t option_number(const struct option_set *set, const char *name)
{
	return value_of(set, name)->number;
}

const char *option_text(const struct option_set *set, const char *name)
{
	return value_of(set, name)->text;
}

bool option_given(const struct option_set *set, const char *name)
{
	return value_of(set, name)->given;
}

void option_help(FILE *out, const char *dashes, const struct option_row *rows, unsigned where)
{
	for (const struct option_row *r = rows; r->name != NULL; r++) {
		char flag[64];

		if ((r->where & where) == 0)
			continue;
		snprintf(flag, sizeof(flag), "%s%s %s", dashes, r->name,
			r->choices ? r->choices : r->arg);
		fprintf(out, "  %-28s %s", flag, r->help);
		if (r->fallback != NULL && r->kind != OPTION_SWITCH)
			fprintf(out, " [%s]", r->fallback);
		fputs(r->required ? " (required)\n" : "\n", out);
	}
}
