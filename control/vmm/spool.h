/* SPDX-License-Identifier: BSD-3-Clause */
/* Device state on its way: whole in a memfd at the source, sent in blobs, whole in a memfd at the
 * target before the VMM there gets its first byte (law 9). Control loop only. */
#ifndef GODWIT_CONTROL_SPOOL_H
#define GODWIT_CONTROL_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

#define SPOOL_BYTES_MAX (UINT64_C(1) << 30) /* largest device state */
#define SPOOL_ALL_MAX   (UINT64_C(4) << 30) /* of all that are on their way to this host */
#define SPOOL_PIECE     (256u << 10)

struct conn;

struct spool {
	int fd;         /* memfd */
	uint64_t bytes; /* in all */
	uint64_t at;    /* sent or received so far */
	uint32_t crc;   /* CRC32C of all */
	bool counted;   /* one of those that SPOOL_ALL_MAX is about */
};

/* Source: takes over a memfd that holds bytes of state; sums it. */
int spool_from_fd(struct spool **s, int fd, uint64_t bytes, struct err *e);
/* Source: queues the next pieces while the connection takes them. 1: all queued, 0: later, -errno.
 */
int spool_send(struct spool *s, struct conn *c, struct err *e);
/* Target: an empty one that awaits bytes. -EPROTO; -EBUSY: with those of other sessions they would
 * be more than SPOOL_ALL_MAX. */
int spool_new(struct spool **s, uint64_t bytes, uint32_t crc, struct err *e);
/* Target: a piece. -EPROTO: more than was announced. */
int spool_add(struct spool *s, const uint8_t *data, size_t bytes, struct err *e);
static inline bool spool_full(const struct spool *s)
{
	return s->at == s->bytes;
}
/* Target: what came is what was announced. 0 or -EBADMSG with e set. */
int spool_check(struct spool *s, struct err *e);
void spool_free(struct spool *s); /* NULL is allowed */

#endif
