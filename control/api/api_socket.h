/* SPDX-License-Identifier: BSD-3-Clause */
/* A unix socket as a file, the API's or that of metrics: made, given its rights, removed. */
#ifndef GODWIT_CONTROL_API_SOCKET_H
#define GODWIT_CONTROL_API_SOCKET_H

#include <sys/types.h>
#include <sys/un.h>

#include "api_rights.h"
#include "err.h"

struct api_socket {
	int fd;
	struct api_rules rules;
	struct sockaddr_un at;
};

/* For sentences. */
struct api_socket_names {
	const char *what;                   /* "API socket" */
	const char *path, *group, *readers; /* the options that gave them */
};
extern const struct api_socket_names api_socket_names; /* of the API's */

/* See api_new(). group NULL or "": left as it is. Where there are readers, everybody can connect,
 * and rules say who may do what. */
int api_socket_open(struct api_socket *s, const struct api_socket_names *names, const char *path,
	mode_t mode, const char *group, const char *readers, struct err *e);
/* Closes it and removes the file. */
void api_socket_close(struct api_socket *s);

#endif
