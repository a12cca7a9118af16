// SPDX-License-Identifier: BSD-3-Clause
// What only a sealed nic link does: each datagram is one packet of the seal, under its own packet
// number. Run by the flow's polling core.
//
// Invariants: a datagram's part is read once, from guest memory into the packet, so what was read
// is what opens, however the guest writes (law 10). What comes is opened into a buffer of the
// link's own; the protocol sees it, and guest memory what it holds, only if its tag is right and
// its number new.

#include "link_nic_impl.h"

#include "codec.h"

#include <errno.h>
#include <string.h>

bool link_nic_seal_out(struct link_nic *n, const struct rel_out *o, const struct iovec *seg,
	unsigned nseg, uint8_t *buf)
{
	struct iovec all[1 + LINK_SEGS] = {
		{(uint8_t *)o->hdr + PACKET_HDR_BYTES, o->hdr_bytes - PACKET_HDR_BYTES}};
	struct seal_text t = {.number = packet_number(o->hdr),
		.aad = buf,
		.aad_bytes = PACKET_AAD_BYTES,
		.far = nseg > 0 && rel_send_slot(&n->send, o->seq)->hdr.codec == CODEC_RAW,
		.nseg = 1 + nseg,
		.seg = all,
		.out = buf + PACKET_HDR_BYTES,
		.tag = buf + PACKET_TAG_AT};

	memcpy(all + 1, seg, nseg * sizeof(*seg));
	memcpy(buf, o->hdr, PACKET_AAD_BYTES);
	if (seal_seal(n->seal_out, &t, 1) == 1)
		return true;
	n->link.error = EIO;
	err_set(&n->link.why, EIO, "nic: a packet can't be sealed; nothing more was sent");
	return false;
}

bool link_nic_unseal(struct link_nic *n, const uint8_t *buf, size_t len)
{
	struct iovec in = {(uint8_t *)buf + PACKET_HDR_BYTES, 0};
	struct seal_text t = {.aad = buf,
		.aad_bytes = PACKET_AAD_BYTES,
		.nseg = 1,
		.seg = &in,
		.out = n->opened + PACKET_HDR_BYTES,
		.tag = (uint8_t *)buf + PACKET_TAG_AT};
	struct packet p;
	size_t covered;

	// Who has not the token costs no look at a tag.
	if (packet_read(&p, n->rel->cfg.token_in, buf, len, &covered) < 0) {
		n->rel->stats.bad++;
		return false;
	}
	t.number = p.number;
	in.iov_len = covered - PACKET_HDR_BYTES;
	memcpy(n->opened, buf, PACKET_HDR_BYTES);
	if (seal_open(n->seal_in, &t, 1) == 1)
		return true;
	if (t.status == SEAL_REPLAYED)
		n->rel->stats.duplicate++;
	else
		n->rel->stats.bad++;
	return false;
}
