/* SPDX-License-Identifier: BSD-3-Clause */
/* Who may ask what of the API: by the credentials of the process at the other end of the socket.
 * The socket's owner, group and mode say who may ask all, as they do for a file; another group, or
 * everybody, may be let in to read. */
#ifndef GODWIT_CONTROL_API_RIGHTS_H
#define GODWIT_CONTROL_API_RIGHTS_H

#include <stdbool.h>
#include <sys/types.h>

#include "err.h"

enum api_right { API_NONE, API_READ, API_ALL };

struct api_rules {
	uid_t owner;
	gid_t group;
	mode_t mode;    /* its bits for writing count */
	bool everybody; /* may read */
	gid_t readers;  /* may read; (gid_t)-1: nobody more */
};

/* Pure. groups: all of the process. */
enum api_right api_rights(
	const struct api_rules *r, uid_t uid, const gid_t *groups, unsigned ngroups);
/* Of the process at the other end of a unix socket. API_NONE where it can't be told. */
enum api_right api_rights_of(const struct api_rules *r, int fd);
/* Is this request, by its name, one that only tells? */
bool api_rights_reads(const char *request);

#endif
