/* SPDX-License-Identifier: BSD-3-Clause */
/* A message of the helper's protocol, which is of fixed size, and lists in a memfd. sock_fd_send()
 * sends one. */
#ifndef GODWIT_KVM_HELPER_SOCK_H
#define GODWIT_KVM_HELPER_SOCK_H

#include <stddef.h>

/* Waits for a message of exactly so many bytes. *fd: what came along, the caller's, or -1. 1, or 0
 * at the end of the socket, or -errno (EPROTO: of another length, or with more descriptors). */
int helper_recv(int sock, void *msg, size_t bytes, int *fd);

/* A memfd that holds n items; fd or -errno. */
int helper_put_list(const void *items, size_t bytes);
/* A copy of what it holds: exactly so many bytes. 0 or -errno. */
int helper_get_list(int fd, void *items, size_t bytes);

#endif
