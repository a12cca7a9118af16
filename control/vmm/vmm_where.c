// SPDX-License-Identifier: BSD-3-Clause
// Where a VMM is, as a journal and the API tell it. Pure.

#include "vmm_where.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

static const char *const names[VMM_DRIVERS] = {"agent", "qemu"};

const char *vmm_driver_name(enum vmm_driver d)
{
	return names[d];
}

void vmm_where_to_json(const struct vmm_where *w, json_t *object)
{
	json_object_set_new(object, "driver", json_string(names[w->driver]));
	json_object_set_new(object, "socket", json_string(w->socket));
	if (w->pid != 0)
		json_object_set_new(object, "pid", json_integer(w->pid));
}

bool vmm_where_from_json(struct vmm_where *w, const json_t *object)
{
	const char *driver = json_string_value(json_object_get(object, "driver"));
	const char *socket = json_string_value(json_object_get(object, "socket"));
	json_int_t pid = json_integer_value(json_object_get(object, "pid"));

	memset(w, 0, sizeof(*w));
	if (driver == NULL || socket == NULL || strlen(socket) >= sizeof(w->socket) || pid < 0 ||
		pid > INT_MAX)
		return false;
	while (w->driver < VMM_DRIVERS && strcmp(names[w->driver], driver) != 0)
		w->driver++;
	strcpy(w->socket, socket);
	w->pid = (int)pid;
	return w->driver < VMM_DRIVERS;
}
