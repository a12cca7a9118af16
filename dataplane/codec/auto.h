/* SPDX-License-Identifier: BSD-3-Clause */
/* The codecs of a flow that chooses by backlog (choose.h): a codec for each option. Opened and
 * closed by control threads; the rest is run by the flow's polling core. */
#ifndef GODWIT_DATAPLANE_AUTO_H
#define GODWIT_DATAPLANE_AUTO_H

#include "choose.h"
#include "codec.h"

#define AUTO_WAITING 4u  /* frames: with so many waiting for a silent link, no more are made */
#define AUTO_SLOTS   32u /* encoded frames that may wait behind raw ones */

struct auto_codec {
	struct choose choose;
	struct codec *option[CHOOSE_OPTIONS]; /* NULL: raw */
	unsigned kind, picked;                /* of the frame in hand */
};

/* buffer_bytes: what the link holds beyond the frames that wait. node: NUMA node or -1. */
int auto_open(struct auto_codec **a, uint64_t buffer_bytes, int node, struct err *e);
void auto_close(struct auto_codec *a); /* NULL is allowed */

/* The codec for a frame of these segments, or NULL: raw. */
struct codec *auto_pick(struct auto_codec *a, const struct choose_link *link,
	const struct iovec *seg, unsigned nseg, size_t bytes);
/* The target has answered a frame of so many bytes of content. */
void auto_placed(struct auto_codec *a, uint8_t codec, size_t bytes);
/* What came of it. out_bytes 0: nothing smaller. */
void auto_learn(struct auto_codec *a, size_t in_bytes, size_t out_bytes, uint64_t cycles);

#endif
