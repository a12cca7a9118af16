// SPDX-License-Identifier: BSD-3-Clause
// The description of a guest's memory that preflight compares. Run by the control loop.

#include "describe.h"

#include "qemu.h"

#include <errno.h>
#include <string.h>

json_t *describe_regions(const struct region_map *map)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < map->n; i++) {
		const struct region *r = &map->r[i];
		json_t *views = json_array();

		for (unsigned k = 0; k < r->nviews; k++)
			json_array_append_new(views,
				json_pack("{s:I, s:I, s:I}", "gpa", (json_int_t)r->views[k].gpa,
					"offset", (json_int_t)r->views[k].offset_bytes, "bytes",
					(json_int_t)r->views[k].bytes));
		json_array_append_new(list, json_pack("{s:s, s:I, s:i, s:o}", "name", r->name,
						    "bytes", (json_int_t)r->bytes, "page_bytes",
						    (int)r->page_bytes, "views", views));
	}
	return list;
}

static uint64_t get(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

static int compare_views(const json_t *views, const struct region *r, struct err *e)
{
	if (json_array_size(views) != r->nviews)
		return err_set(e, EINVAL,
			"region %s is shown at %zu guest addresses at the source and %u here; "
			"start the "
			"target VMM with the same machine",
			r->name, json_array_size(views), r->nviews);
	for (unsigned k = 0; k < r->nviews; k++) {
		const json_t *v = json_array_get(views, k);

		if (get(v, "gpa") != r->views[k].gpa ||
			get(v, "offset") != r->views[k].offset_bytes ||
			get(v, "bytes") != r->views[k].bytes)
			return err_set(e, EINVAL,
				"region %s: guest address 0x%llx at the source, 0x%llx here; start "
				"the "
				"target VMM with the same machine",
				r->name, (unsigned long long)get(v, "gpa"),
				(unsigned long long)r->views[k].gpa);
	}
	return 0;
}

int describe_compare(const json_t *theirs, const struct region_map *here, struct err *e)
{
	if (!json_is_array(theirs))
		return err_set(e, EPROTO, "the source did not describe its guest's memory");
	if (json_array_size(theirs) != here->n)
		return err_set(e, EINVAL,
			"the guest has %zu RAM regions at the source and %u here; start the target "
			"VMM "
			"with the same memory",
			json_array_size(theirs), here->n);
	for (unsigned i = 0; i < here->n; i++) {
		const struct region *r = &here->r[i];
		const json_t *o = json_array_get(theirs, i);
		const char *name = json_string_value(json_object_get(o, "name"));
		int rc;

		if (name == NULL || strcmp(name, r->name) != 0)
			return err_set(e, EINVAL,
				"RAM region %u is called %.63s at the source and %s here; start "
				"the "
				"target VMM with the same memory",
				i, name != NULL ? name : "nothing", r->name);
		if (get(o, "bytes") != r->bytes)
			return err_set(e, EINVAL,
				"region %s has %llu MiB at the source and %llu MiB here; start the "
				"target "
				"VMM with the same memory size",
				name, (unsigned long long)(get(o, "bytes") >> 20),
				(unsigned long long)(r->bytes >> 20));
		rc = compare_views(json_object_get(o, "views"), r, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int describe_compare_machine(const json_t *theirs, const json_t *here, struct err *e)
{
	return theirs == NULL && here == NULL ? 0 : qemu_compare(theirs, here, e);
}
