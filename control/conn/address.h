/* SPDX-License-Identifier: BSD-3-Clause */
/* Socket addresses as people write them. */
#ifndef GODWIT_CONTROL_ADDRESS_H
#define GODWIT_CONTROL_ADDRESS_H

#include <stddef.h>
#include <sys/socket.h>

#include "err.h"

#define ADDRESS_HOST 256u /* bytes of a host's name, with the NUL */
#define ADDRESS_TEXT 128u
#define ADDRESS_PORT "4646" /* where a port is not given */

/* Takes "HOST:PORT", "[v6]:PORT", ":PORT" or "HOST" apart. An empty host stands for all addresses.
 * 0 or -EINVAL with e set. */
int address_split(const char *text, char host[ADDRESS_HOST], char port[6], struct err *e);

/* "192.0.2.7:4646", "[2001:db8::1]:4646". */
void address_text(const struct sockaddr *sa, socklen_t len, char text[ADDRESS_TEXT]);

/* Who is at the other end: an address, or "uid 1000 pid 77" on a unix socket. */
void address_of_peer(int fd, char text[ADDRESS_TEXT]);

#endif
