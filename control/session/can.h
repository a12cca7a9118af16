/* SPDX-License-Identifier: BSD-3-Clause */
/* What a daemon can do, as both sides tell in hello, and what comes of it in preflight: four lists
 * of names with the version of each. PROTOCOL.md, section 2. Control loop only; no state. */
#ifndef GODWIT_CONTROL_CAN_H
#define GODWIT_CONTROL_CAN_H

#include <jansson.h>
#include <stdbool.h>

#include "err.h"

/* Member "can" of a hello: {"codecs": {NAME: VERSION, ...}, "seals", "links", "features"}. nic,
 * rdma: whether this daemon has a port, an RDMA device. New reference. */
json_t *can_tell(bool nic, bool rdma);

/* From outside: does a hello tell what its daemon can, in four lists of names and versions? 0, or
 * -EPROTO with e set. */
int can_read(const json_t *hello, struct err *e);

/* Do both have it, in the same version? ours: of can_tell(); source: whether this side is it;
 * hello: of the other side, passed by can_read(). 0, or -ENOTSUP with e set. */
int can_need(const json_t *ours, bool source, const json_t *hello, const char *list,
	const char *name, struct err *e);

#endif
