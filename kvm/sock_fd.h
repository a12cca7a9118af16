/* SPDX-License-Identifier: BSD-3-Clause */
/* One message of a SOCK_SEQPACKET socket with its file descriptor (SCM_RIGHTS). */
#ifndef GODWIT_KVM_SOCK_FD_H
#define GODWIT_KVM_SOCK_FD_H

#include <stddef.h>
#include <sys/types.h>

/* fd -1: none; it stays the caller's. 0 or -errno; EPIPE: the other end is gone. */
int sock_fd_send(int sock, const void *msg, size_t bytes, int fd);

/* Waits for a message. Its bytes, or 0 at the end of the socket, or -errno: EPIPE, EMSGSIZE (longer
 * than room), EMFILE (more than one descriptor came along; they are closed). *fd: what came along,
 * the caller's, or -1. */
ssize_t sock_fd_recv(int sock, void *buf, size_t room, int *fd);

#endif
