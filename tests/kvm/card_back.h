/* SPDX-License-Identifier: BSD-3-Clause */
/* The back end's process: see card.h. */
#ifndef GODWIT_TESTS_CARD_BACK_H
#define GODWIT_TESTS_CARD_BACK_H

/* Serves vhost-user on the path. Tells by a byte 'r' on pipe that it listens; then each value (4
 * bytes) that comes is a packet to receive, answered by 'k'. Never returns; exits at end of file,
 * with 77 where there is no EAL. */
_Noreturn void card_back(const char *path, int pipe);

#endif
