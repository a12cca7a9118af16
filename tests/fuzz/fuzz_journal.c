// SPDX-License-Identifier: BSD-3-Clause
// The journal of a former daemon, from any bytes: a disk may have lost or mixed some. What can't be
// read is told as damaged, never left out; taken up again the file holds whole lines. libFuzzer
// runs it, with -close_fd_mask: each damaged line is logged.

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal.h"
#include "vmm_where.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static char folder[] = "/dev/shm/godwit-fuzz-XXXXXX", path[64];

static void forget(void)
{
	unlink(path);
	rmdir(folder);
}

static void put(const uint8_t *data, size_t bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, data, bytes) != (ssize_t)bytes)
		abort();
	close(fd);
}

static void look(void *arg, const char *name, json_t *records)
{
	size_t *lines = arg, i;
	struct vmm_where where;
	json_t *record;

	if (strcmp(name, "guest") != 0 || json_array_size(records) != *lines)
		abort();
	json_array_foreach(records, i, record)
	{
		memset(&where, 0, sizeof(where));
		if (!json_is_object(record))
			abort();
		if (vmm_where_from_json(&where, record) &&
			memchr(where.socket, '\0', sizeof(where.socket)) == NULL)
			abort();
	}
	*lines = SIZE_MAX; /* seen */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	size_t lines = 0;
	struct journal *j;
	struct stat st;
	struct err e;

	if (path[0] == '\0') {
		if (mkdtemp(folder) == NULL)
			abort();
		snprintf(path, sizeof(path), "%s/guest.journal", folder);
		atexit(forget);
	}
	put(data, bytes);
	for (size_t i = 0; i < bytes; i++)
		lines += data[i] == '\n';
	if (journal_scan(folder, look, &lines, &e) != 0 || lines != SIZE_MAX)
		abort();
	if (journal_reopen(&j, folder, "guest", &e) != 0 ||
		journal_note(j, json_pack("{s:s}", "is", "running"), &e) != 0)
		abort();
	journal_close(j);
	if (stat(path, &st) != 0 || (size_t)st.st_size > bytes + sizeof("{\"is\":\"running\"}"))
		abort();
	return 0;
}
