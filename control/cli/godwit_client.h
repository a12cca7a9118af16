/* SPDX-License-Identifier: BSD-3-Clause */
/* godwit's connection to the daemon's API. It blocks: godwit does one thing at a time. */
#ifndef GODWIT_CONTROL_GODWIT_CLIENT_H
#define GODWIT_CONTROL_GODWIT_CLIENT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

struct godwit_client {
	int fd;
	const char *path;
	uint8_t *buf;
	size_t have;
};

/* -errno with e saying what to do when the daemon is not there. */
int godwit_client_open(struct godwit_client *c, const char *path, struct err *e);
/* The request's reference is stolen. */
int godwit_client_send(struct godwit_client *c, json_t *request, struct err *e);
/* The next message, whose texts hold no control characters; NULL with e set (ECONNRESET: the daemon
 * has left). */
json_t *godwit_client_next(struct godwit_client *c, struct err *e);
void godwit_client_close(struct godwit_client *c);

#endif
