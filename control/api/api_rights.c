// SPDX-License-Identifier: BSD-3-Clause
// Rights of the API's clients. Run by the control loop.

#include "api_rights.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "command.h"

#define GROUPS_MOST 256 /* of a process; those beyond are not looked at, which gives it less */

static bool is_in(gid_t gid, const gid_t *groups, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

enum api_right api_rights(
	const struct api_rules *r, uid_t uid, const gid_t *groups, unsigned ngroups)
{
	mode_t bit = uid == r->owner                    ? S_IWUSR
		     : is_in(r->group, groups, ngroups) ? S_IWGRP
							: S_IWOTH;

	if (uid == 0 || (r->mode & bit) != 0)
		return API_ALL;
	if (r->everybody || (r->readers != (gid_t)-1 && is_in(r->readers, groups, ngroups)))
		return API_READ;
	return API_NONE;
}

enum api_right api_rights_of(const struct api_rules *r, int fd)
{
	gid_t groups[GROUPS_MOST + 1];
	socklen_t len = GROUPS_MOST * sizeof(groups[0]), who_len = sizeof(struct ucred);
	struct ucred who;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &who_len) != 0)
		return API_NONE;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) != 0)
		len = 0;
	groups[len / sizeof(groups[0])] = who.gid;
	return api_rights(r, who.uid, groups, (unsigned)(len / sizeof(groups[0])) + 1);
}

bool api_rights_reads(const char *request)
{
	static const enum command reads[] = {COMMAND_STATUS, COMMAND_LIST, COMMAND_WATCH,
		COMMAND_DOCTOR, COMMAND_VERSION, COMMAND_HELP};

	for (size_t i = 0; i < sizeof(reads) / sizeof(reads[0]); i++)
		if (strcmp(command_table[reads[i]].name, request) == 0)
			return true;
	return false;
}
