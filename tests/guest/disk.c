// SPDX-License-Identifier: BSD-3-Clause
// Files on the guest's disk: one is written anew every now and then, synced, and another is read
// back from the device, not from the page cache. One thread does it; the lock is for the end.

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "checker.h"

#define FILES      24u
#define FILE_WORDS (96u * 1024u / 8u)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned versions[FILES]; // 0: not there yet
static uint64_t buffer[FILE_WORDS];
static bool ended;
static _Atomic uint64_t writes;

static void name_of(char *name, size_t size, unsigned file, const char *tail)
{
	snprintf(name, size, "/var/disk/file%u%s", file, tail);
}

static bool file_write(unsigned file)
{
	char name[64], new_name[64];
	uint64_t x = mix((uint64_t)file << 32 | ++versions[file]);
	bool good;
	int fd;

	name_of(name, sizeof(name), file, "");
	name_of(new_name, sizeof(new_name), file, ".new");
	for (unsigned i = 0; i < FILE_WORDS; i++)
		buffer[i] = x += 0x9e3779b97f4a7c15u;
	fd = open(new_name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		return false;
	good = write(fd, buffer, sizeof(buffer)) == (ssize_t)sizeof(buffer) && fsync(fd) == 0;
	close(fd);
	return good && rename(new_name, name) == 0;
}

static bool file_check(unsigned file)
{
	char name[64];
	uint64_t x = mix((uint64_t)file << 32 | versions[file]);
	bool good;
	int fd;

	name_of(name, sizeof(name), file, "");
	fd = open(name, O_RDONLY);
	if (fd < 0)
		return false;
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); // it was synced: read it from the device
	good = read(fd, buffer, sizeof(buffer)) == (ssize_t)sizeof(buffer);
	close(fd);
	for (unsigned i = 0; good && i < FILE_WORDS; i++)
		good = buffer[i] == (x += 0x9e3779b97f4a7c15u);
	return good;
}

static void *work(void *arg)
{
	(void)arg;
	for (unsigned n = 0;; n++) {
		unsigned file = n % FILES, other = (unsigned)(mix(n) % FILES);

		pthread_mutex_lock(&lock);
		if (!ended && !file_write(file))
			console_error("disk: file %u can't be written", file);
		if (!ended && versions[other] != 0 && !file_check(other))
			console_error("disk: file %u is not as it was written", other);
		pthread_mutex_unlock(&lock);
		atomic_fetch_add(&writes, 1);
		sleep_ms(100);
	}
	return NULL;
}

void disk_start(void)
{
	thread_start(work, NULL);
}

unsigned disk_end(void)
{
	unsigned files = 0;

	pthread_mutex_lock(&lock);
	ended = true;
	for (unsigned i = 0; i < FILES; i++) {
		if (versions[i] == 0)
			continue;
		files++;
		if (!file_check(i))
			console_error("disk: file %u is not as it was written", i);
	}
	if (umount("/var/disk") != 0)
		console_error("disk: it can't be unmounted");
	pthread_mutex_unlock(&lock);
	return files;
}

uint64_t disk_writes(void)
{
	return atomic_load(&writes);
}
