// SPDX-License-Identifier: BSD-3-Clause
// The host's number of huge pages, changed relatively and under the lock that all tests take.

#include "huge.h"

#include "err.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#define NR_HUGE "/proc/sys/vm/nr_hugepages"

/* In one read: the kernel gives the whole number at offset 0, and nothing beyond. */
static long count(int fd)
{
	char text[32] = "";

	return pread(fd, text, sizeof(text) - 1, 0) > 0 ? strtol(text, NULL, 10) : 0;
}

long huge_add(long n)
{
	_cleanup_(close_fd) int fd = open(NR_HUGE, O_RDWR | O_CLOEXEC);
	long before;

	if (fd < 0 || flock(fd, LOCK_EX) != 0)
		return 0;
	before = count(fd);
	if (dprintf(fd, "%ld", before + n > 0 ? before + n : 0) <= 0)
		return 0;
	return count(fd) - before;
}
