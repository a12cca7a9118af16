// SPDX-License-Identifier: BSD-3-Clause
// Options as fields of an API request: written by godwit, read by godwitd, which trusts none of it.

#include "option.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* The daemon's working directory is another one. */
static json_t *absolute(const char *path)
{
	_cleanup_(free_ptr) char *here = path[0] == '/' ? NULL : getcwd(NULL, 0);

	return here ? json_sprintf("%s/%s", here, path) : json_string(path);
}

void option_to_json(const struct option_set *set, json_t *request)
{
	for (const struct option_row *r = set->rows; r->name != NULL; r++) {
		const struct option_value *v = &set->v[r - set->rows];

		if (!v->given || r->field == NULL || (r->where & set->where) == 0)
			continue;
		if (r->kind == OPTION_SWITCH)
			json_object_set_new(request, r->field, json_boolean(v->number));
		else if (r->kind == OPTION_PATH)
			json_object_set_new(request, r->field, absolute(v->text));
		else if (r->kind == OPTION_TEXT || r->kind == OPTION_CHOICE)
			json_object_set_new(request, r->field, json_string(v->text));
		else
			json_object_set_new(request, r->field, json_integer((json_int_t)v->number));
	}
}

static int read_field(
	const struct option_row *row, const json_t *j, struct option_value *v, struct err *e)
{
	json_int_t number;

	switch (row->kind) {
	case OPTION_SWITCH:
		if (!json_is_boolean(j))
			return err_set(e, EINVAL, "%s: true or false is wanted", row->field);
		v->number = json_is_true(j);
		break;
	case OPTION_TEXT:
	case OPTION_PATH:
	case OPTION_CHOICE:
		if (!json_is_string(j))
			return err_set(e, EINVAL, "%s: a string is wanted", row->field);
		return option_parse(row, json_string_value(j), v, e);
	default:
		number = json_integer_value(j);
		if (!json_is_integer(j) || number < 0)
			return err_set(
				e, EINVAL, "%s: a whole number from 0 on is wanted", row->field);
		if ((uint64_t)number < row->min || (row->max != 0 && (uint64_t)number > row->max))
			return err_set(e, EINVAL,
				"%s: %" JSON_INTEGER_FORMAT " is not from %" PRIu64 " to %" PRIu64,
				row->field, number, row->min,
				row->max != 0 ? row->max : (uint64_t)INT64_MAX);
		v->number = (uint64_t)number;
	}
	return 0;
}

int option_from_json(struct option_set *set, json_t *request, struct err *e)
{
	const char *key;
	json_t *j;

	json_object_foreach(request, key, j)
	{
		const struct option_row *row = set->rows;
		int rc;

		if (strcmp(key, "do") == 0 || strcmp(key, "name") == 0)
			continue;
		while (row->name != NULL && ((row->where & set->where) == 0 || row->field == NULL ||
						    strcmp(row->field, key) != 0))
			row++;
		if (row->name == NULL)
			return err_set(e, EINVAL, "unknown field '%.60s'", key);
		rc = read_field(row, j, &set->v[row - set->rows], e);
		if (rc < 0)
			return rc;
		set->v[row - set->rows].given = true;
	}
	return 0;
}
