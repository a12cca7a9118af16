/* SPDX-License-Identifier: BSD-3-Clause */
/* godwit keys: a test authority, and hosts' keys, requests and certificates. Run by godwit. */
#ifndef GODWIT_CONTROL_KEYS_H
#define GODWIT_CONTROL_KEYS_H

#include "err.h"

struct keys_options {
	const char *dir; /* where the authority is, made if it is not there */
	unsigned days;   /* that certificates and the list of revoked ones are good for */
	int nnames;
	/* Each one host: its names, by commas. The first one is that of its folder in dir. */
	const char *const *names;
	const char *revoke; /* NULL, or the folder of the host whose certificate is revoked */
};

/* Makes what is missing, and new certificates; keys that are there stay. Prints what it made. 0, or
 * -errno with e set. */
int keys_make(const struct keys_options *o, struct err *e);

#endif
