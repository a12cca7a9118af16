// SPDX-License-Identifier: BSD-3-Clause
// A frame becomes bytes, sealed where the rdma link is, and back. Run by the flow's polling core.
//
// Invariants: a payload is read once, from guest memory into memory that the device may read, so
// its segments are free then: what was read is what comes, however the guest writes (law 10). Each
// packet takes the next number. No byte of what came is handed on before its tag was right.

#include "link_rdma_impl.h"

#include "codec.h"

#include <string.h>

bool link_rdma_put(
	struct link_rdma *r, struct frame *f, const struct iovec *seg, unsigned nseg, uint8_t *p)
{
	uint8_t *at = p + FRAME_HDR_BYTES;
	struct seal_text text = {.number = r->number_out,
		.aad = p,
		.aad_bytes = FRAME_HDR_BYTES,
		.far = f->codec == CODEC_RAW,
		.nseg = nseg,
		.seg = seg,
		.out = at,
		.tag = at + f->payload_bytes};

	frame_encode(f, p);
	if (r->seal_out != NULL) {
		r->number_out++;
		return seal_seal(r->seal_out, &text, 1) == 1;
	}
	for (unsigned i = 0; i < nseg; i++) {
		memcpy(at, seg[i].iov_base, seg[i].iov_len);
		at += seg[i].iov_len;
	}
	return true;
}

bool link_rdma_unseal(struct link_rdma *r, uint8_t *p, uint32_t payload_bytes)
{
	struct iovec in = {p + FRAME_HDR_BYTES, payload_bytes};
	struct seal_text text = {.number = r->number_in,
		.aad = p,
		.aad_bytes = FRAME_HDR_BYTES,
		.nseg = payload_bytes > 0 ? 1 : 0,
		.seg = &in,
		.out = p + FRAME_HDR_BYTES,
		.tag = p + FRAME_HDR_BYTES + payload_bytes};

	if (r->seal_in == NULL)
		return true;
	r->number_in++;
	return seal_open(r->seal_in, &text, 1) == 1;
}
