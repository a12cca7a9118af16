// SPDX-License-Identifier: BSD-3-Clause
// Error texts and scope cleanup. Run by any thread but polling cores; no state.

#include "err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int err_set(struct err *e, int errnum, const char *fmt, ...)
{
	if (e != NULL) {
		va_list ap;

		va_start(ap, fmt);
		vsnprintf(e->text, sizeof(e->text), fmt, ap);
		va_end(ap);
		e->errnum = errnum;
	}
	return -errnum;
}

int err_sys(struct err *e, int errnum, const char *fmt, ...)
{
	if (e != NULL) {
		char what[96];
		va_list ap;
		size_t len;

		va_start(ap, fmt);
		vsnprintf(e->text, sizeof(e->text), fmt, ap);
		va_end(ap);
		len = strlen(e->text);
		snprintf(e->text + len, sizeof(e->text) - len, ": %s",
			strerror_r(errnum, what, sizeof(what)));
		e->errnum = errnum;
	}
	return -errnum;
}

void close_fd(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

void free_ptr(void *pptr)
{
	free(*(void **)pptr);
}
