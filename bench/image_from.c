// SPDX-License-Identifier: BSD-3-Clause
// Reads images from files and processes, before any clock runs. Pages of a process that can't be
// read (guard pages, devices) are left out.

#include "image_from.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PAGE 4096u

// Says again what was read until dst is full.
static int repeat(uint8_t *dst, uint64_t have, uint64_t bytes)
{
	have -= have % PAGE;
	if (have == 0)
		return -ENODATA;
	for (uint64_t at = have; at < bytes; at += have)
		memcpy(dst + at, dst, bytes - at < have ? bytes - at : have);
	return 0;
}

// As much as can be read at offset; holes of a process' memory end it.
static uint64_t read_at(int fd, uint64_t offset, uint8_t *dst, uint64_t bytes)
{
	uint64_t done = 0;

	while (done < bytes) {
		ssize_t n = pread(fd, dst + done, bytes - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (uint64_t)n;
	}
	return done;
}

int image_from_file(const char *path, uint8_t *dst, uint64_t bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t have;

	if (fd < 0)
		return -errno;
	have = read_at(fd, 0, dst, bytes);
	close(fd);
	return repeat(dst, have, bytes);
}

int image_from_process(pid_t pid, uint8_t *dst, uint64_t bytes)
{
	uint64_t first, end, have = 0;
	char name[64], line[512], rights[8];
	FILE *maps;
	int fd, rc;

	snprintf(name, sizeof(name), "/proc/%d/mem", (int)pid);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	rc = -errno;
	snprintf(name, sizeof(name), "/proc/%d/maps", (int)pid);
	maps = fopen(name, "re");
	if (fd < 0 || maps == NULL) {
		rc = fd < 0 ? rc : -errno;
		if (fd >= 0)
			close(fd);
		if (maps != NULL)
			fclose(maps);
		return rc;
	}
	while (have < bytes && fgets(line, sizeof(line), maps) != NULL) {
		uint64_t n;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s", &first, &end, rights) != 3 ||
			strcmp(rights, "rw-p") != 0)
			continue;
		n = end - first < bytes - have ? end - first : bytes - have;
		n = read_at(fd, first, dst + have, n);
		have += n - n % PAGE;
	}
	fclose(maps);
	close(fd);
	return repeat(dst, have, bytes);
}
