// SPDX-License-Identifier: BSD-3-Clause
// What is read of a foreign process: a line of its mappings, a seccomp filter. libFuzzer runs it.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "procmap.h"
#include "sysfilter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void parse_line(const uint8_t *data, size_t bytes)
{
	char *line = malloc(bytes + 1);
	struct procmap m;

	if (line == NULL)
		return;
	memcpy(line, data, bytes);
	line[bytes] = '\0';
	if (procmap_parse(line, &m) && (m.end <= m.start || strlen(m.path) > bytes))
		abort();
	free(line);
}

static void run_filter(const uint8_t *data, size_t bytes)
{
	size_t n = bytes / sizeof(struct sock_filter);
	struct sock_filter *code = malloc(n * sizeof(*code) + 1);
	const struct seccomp_data call = {
		.nr = 323, .arch = 0xc000003e, .args = {1, 2, 3, 4, 5, 6}};

	if (code == NULL)
		return;
	memcpy(code, data, n * sizeof(*code));
	sysfilter_passes(sysfilter_run(code, (unsigned)n, &call));
	free(code);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	parse_line(data, bytes);
	run_filter(data, bytes);
	return 0;
}
