// SPDX-License-Identifier: BSD-3-Clause
// What only a sealed tcp link does. Run by the flow's polling core.
//
// Invariants: a frame is sealed once, as it is queued, into memory of the link's own, so its
// segments are read once and are free then: what was read is what opens, however the guest writes
// (law 10). Each packet takes the next number. What comes is opened where it lies in the receiver's
// ring, and no byte of it is handed on before its tag was right.

#include "link_tcp.h"

#include "codec.h"

#include <string.h>

bool link_tcp_stage(struct link_tcp *t, const struct link_tx *f, const uint8_t *hdr)
{
	uint8_t *p = t->stage + t->queued_bytes % TCP_STAGE_BYTES;
	struct seal_text text = {.number = t->number_out,
		.aad = p,
		.aad_bytes = FRAME_HDR_BYTES,
		.far = f->hdr.codec == CODEC_RAW,
		.nseg = f->nseg,
		.seg = f->seg,
		.out = p + FRAME_HDR_BYTES,
		.tag = p + FRAME_HDR_BYTES + f->hdr.payload_bytes};

	memcpy(p, hdr, FRAME_HDR_BYTES);
	t->number_out++;
	return seal_seal(t->seal_out, &text, 1) == 1;
}

bool link_tcp_put(struct link_tcp *t, struct frame *f, uint8_t *p)
{
	struct seal_text text = {.number = t->number_out,
		.aad = p,
		.aad_bytes = FRAME_HDR_BYTES,
		.tag = p + FRAME_HDR_BYTES};

	frame_encode(f, p);
	if (t->seal_out == NULL)
		return true;
	t->number_out++;
	return seal_seal(t->seal_out, &text, 1) == 1;
}

bool link_tcp_unseal(struct link_tcp *t, uint8_t *p, uint32_t payload_bytes)
{
	struct iovec in = {p + FRAME_HDR_BYTES, payload_bytes};
	struct seal_text text = {.number = t->number_in,
		.aad = p,
		.aad_bytes = FRAME_HDR_BYTES,
		.nseg = payload_bytes > 0 ? 1 : 0,
		.seg = &in,
		.out = p + FRAME_HDR_BYTES,
		.tag = p + FRAME_HDR_BYTES + payload_bytes};

	if (t->seal_in == NULL)
		return true;
	t->number_in++;
	return seal_open(t->seal_in, &text, 1) == 1;
}
