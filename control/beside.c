// SPDX-License-Identifier: BSD-3-Clause
// Finds programs beside this one. No state; any thread.

#include "beside.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <unistd.h>

int beside_find(const char *name, const char *why, char path[BESIDE_BYTES], struct err *e)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return err_sys(e, errno, "cannot find out where this program lies");
	self[n] = '\0';
	snprintf(path, BESIDE_BYTES, "%s/%s", dirname(self), name);
	if (access(path, X_OK) != 0)
		return err_sys(e, errno, "cannot run %s, which %s", path, why);
	return 0;
}
