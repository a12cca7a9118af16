// SPDX-License-Identifier: BSD-3-Clause
// A record of a migration, and events of a daemon, from any bytes: read, made a picture of, made a
// script of. libFuzzer runs it.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "plot.h"
#include "view.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* No line is wider than it may be, and none speaks to the terminal. */
static void check_view(const struct plot_record *r)
{
	char *text = NULL;
	struct view v;
	size_t len;
	json_t *o;
	FILE *out = open_memstream(&text, &len);
	size_t i;

	view_init(&v, "fuzz");
	json_array_foreach(r->pass, i, o) view_take(&v, o);
	json_array_foreach(r->passed, i, o) view_take(&v, o);
	json_array_foreach(r->progress, i, o) view_take(&v, o);
	view_seed(&v, r->end);
	if (out == NULL || view_print(&v, out, 40, 20) > 20)
		abort();
	fclose(out);
	for (char *at = text; *at != '\0'; at += strcspn(at, "\n") + 1)
		if (strcspn(at, "\n") > 40)
			abort();
	if (strchr(text, 27) != NULL)
		abort();
	free(text);
	view_fini(&v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	/* An odd first byte spares the fuzzer to find out how a record begins. */
	static const char head[] = "{\"event\":\"record\",\"version\":1,\"name\":\"x\"}\n";
	size_t skip = bytes > 0 && data[0] % 2 == 1 ? 1 : 0;
	int fd = memfd_create("record", 0);
	struct plot_record r;
	char path[40];
	FILE *null;
	struct err e;

	if (fd < 0 || (skip && write(fd, head, sizeof(head) - 1) < 0) ||
		write(fd, data + skip, bytes - skip) != (ssize_t)(bytes - skip))
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (plot_read(&r, path, &e) == 0) {
		null = fopen("/dev/null", "w");
		plot_script(&r, null, "svg");
		fclose(null);
		check_view(&r);
	}
	plot_fini(&r);
	close(fd);
	return 0;
}
