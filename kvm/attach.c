// SPDX-License-Identifier: BSD-3-Clause
// Attach: the interface stands, the work follows.

#include "attach.h"

#include <errno.h>
#include <stddef.h>

int attach_files(pid_t pid, struct attach_file **files, unsigned *n, struct err *e)
{
	(void)files;
	(void)n;
	return err_set(e, ENOSYS, "process %d: attaching is not built yet", (int)pid);
}

int attach_find_ram(pid_t pid, const char *path, struct attach_file *f, struct err *e)
{
	(void)path;
	(void)f;
	return err_set(e, ENOSYS, "process %d: attaching is not built yet", (int)pid);
}

int attach_open_file(pid_t pid, const struct attach_file *f, struct err *e)
{
	(void)f;
	return err_set(e, ENOSYS, "process %d: attaching is not built yet", (int)pid);
}

unsigned attach_others(pid_t pid, const struct attach_file *f, pid_t others[ATTACH_OTHERS])
{
	(void)pid;
	(void)f;
	(void)others;
	return 0;
}

void attach_check(pid_t pid, const struct attach_file *files, unsigned n, struct findings *findings)
{
	(void)files;
	(void)n;
	finding_add(findings, "attach", "wait for it", "process %d: attaching is not built yet",
		(int)pid);
}

int attach_open(struct attach **a, pid_t pid, int pidfd, const struct attach_ram *ram, unsigned n,
	struct err *e)
{
	(void)pidfd;
	(void)ram;
	(void)n;
	*a = NULL;
	return err_set(e, ENOSYS, "process %d: attaching is not built yet", (int)pid);
}

uint64_t attach_stopped_ns(const struct attach *a)
{
	(void)a;
	return 0;
}

void attach_close(struct attach *a)
{
	(void)a;
}

int attach_track(struct attach *a, struct err *e)
{
	(void)a;
	return err_set(e, ENOSYS, "attaching is not built yet");
}

void attach_untrack(struct attach *a)
{
	(void)a;
}

int attach_verify(const struct attach *a, struct err *e)
{
	(void)a;
	return err_set(e, ENOSYS, "attaching is not built yet");
}

const struct attach_ram *attach_mappings(const struct attach *a, unsigned *n)
{
	(void)a;
	*n = 0;
	return NULL;
}

int attach_uffd(const struct attach *a)
{
	(void)a;
	return -1;
}

pid_t attach_pid(const struct attach *a)
{
	(void)a;
	return -1;
}
