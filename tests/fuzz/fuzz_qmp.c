// SPDX-License-Identifier: BSD-3-Clause
// What a QMP monitor sends, from any bytes, cut in two anywhere: the reader finds the same messages
// and stays inside its bytes. libFuzzer runs it.

#include <stdlib.h>

#include <string.h>

#include "qemu.h"
#include "qmp_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* As if the human monitor had printed it; and as if both daemons had told it of their machines. */
static void read_views(const char *data, size_t bytes)
{
	char *text = strndup(data, bytes);
	uint64_t gpa, offset;
	struct err e;
	json_t *about;

	qemu_view_of(text, "ram0", &gpa, &offset);
	qemu_host_address(text);
	qemu_register_has(text, "CR4", 1);
	about = json_loads(text, 0, NULL);
	if (about != NULL) {
		json_t *disks = json_object();

		json_object_set_new(about, "shared_disks", json_true());
		if (qemu_compare(about, about, &e) != 0 && json_is_object(about))
			abort();
		qemu_compare(about, disks, &e);
		qemu_compare(disks, about, &e);
		json_decref(disks);
	}
	json_decref(about);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct qmp_scan whole = {0}, cut = {0};
	const char *text = (const char *)data;
	struct err e;
	size_t at = 0;
	int64_t n;

	read_views(text, bytes);
	if (bytes > 0) {
		size_t first = data[0] % bytes;
		int64_t a = qmp_scan(&whole, text, bytes, &e);
		int64_t b = qmp_scan(&cut, text, first, &e);

		if (b == 0)
			b = qmp_scan(&cut, text, bytes, &e);
		if (a != b)
			abort();
	}
	whole = (struct qmp_scan){0};
	while ((n = qmp_scan(&whole, text + at, bytes - at, &e)) > 0) {
		if ((size_t)n > bytes - at)
			abort();
		json_decref(qmp_scan_json(text + at, (size_t)n, &e));
		at += (size_t)n;
	}
	return 0;
}
