/* SPDX-License-Identifier: BSD-3-Clause */
/* Errors. Inward, functions return -errno. Outward, struct err carries one sentence for a person:
 * what failed, on what, and what to do. Only control/ prints it. */
#ifndef GODWIT_BASE_ERR_H
#define GODWIT_BASE_ERR_H

#include <stdarg.h>

#define ERR_TEXT_BYTES 320

struct err {
	int errnum; /* positive errno value, 0 for none */
	char text[ERR_TEXT_BYTES];
};

/* Fills e (NULL is allowed) and returns -errnum, so that "return err_set(e, EINVAL, ...)" reads
 * well. errnum is positive. The text is truncated, never overrun. */
int err_set(struct err *e, int errnum, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Like err_set, and appends ": " and the system's text for errnum. */
int err_sys(struct err *e, int errnum, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Scope cleanup: _cleanup_(close_fd) int fd = -1; */
#define _cleanup_(f) __attribute__((cleanup(f)))

void close_fd(int *fd);    /* closes *fd if it is >= 0, keeps errno */
void free_ptr(void *pptr); /* frees *(void **)pptr */

#endif
