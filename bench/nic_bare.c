// SPDX-License-Identifier: BSD-3-Clause
// What rte_eth_tx_burst() and rte_eth_rx_burst() alone move: two pages attached behind a header of
// the same size as the flow's, their CRC32C in it; checked and copied past the cache over there.
// Nothing is numbered, acknowledged or sent again: memif loses nothing, it only fills up.

#include "nic_bare.h"

#include <errno.h>
#include <string.h>

#include <rte_ethdev.h>

#include "copy.h"
#include "crc.h"
#include "packet.h"
#include "region.h"
#include "udp.h"

#define HDR_BYTES  (UDP_ETHER_BYTES + UDP_IP4_BYTES + UDP_BYTES + PACKET_DATA_BYTES)
#define PART_BYTES (2 * PAGE_BYTES)

struct header {
	uint64_t offset;
	uint32_t bytes, sum;
};

static void kept(void *addr, void *arg)
{
	(void)addr;
	(void)arg;
}

static struct rte_mbuf *make(
	struct nic_bare *n, struct rte_mbuf_ext_shared_info *info, uint64_t at, uint32_t bytes)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(n->q->hdr_pool);
	struct rte_mbuf *x = m == NULL ? NULL : rte_pktmbuf_alloc(n->q->ext_pool);
	struct header h = {at, bytes, 0};

	if (x == NULL) {
		rte_pktmbuf_free(m);
		return NULL;
	}
	h.sum = crc32c(0, n->memory + at, bytes);
	memset(rte_pktmbuf_append(m, HDR_BYTES), 0xff, HDR_BYTES);
	memcpy(rte_pktmbuf_mtod(m, uint8_t *) + HDR_BYTES - sizeof(h), &h, sizeof(h));
	rte_mbuf_ext_refcnt_update(info, 1);
	rte_pktmbuf_attach_extbuf(
		x, n->memory + at, (rte_iova_t)(uintptr_t)(n->memory + at), (uint16_t)bytes, info);
	x->data_len = (uint16_t)bytes;
	m->next = x;
	m->nb_segs = 2;
	m->pkt_len = HDR_BYTES + bytes;
	return m;
}

void nic_bare_source(struct nic_bare *n, _Atomic bool *placed)
{
	struct rte_mbuf_ext_shared_info info = {.free_cb = kept};
	struct rte_mbuf *m[PORT_BURST];
	unsigned head = 0, count = 0;

	rte_mbuf_ext_refcnt_set(&info, 1);
	for (uint64_t at = 0; (at < n->bytes || head < count) && *n->failed == 0;) {
		if (head == count)
			for (head = count = 0; count < PORT_BURST && at < n->bytes; count++) {
				uint64_t left = n->bytes - at;
				uint32_t bytes = left < PART_BYTES ? (uint32_t)left : PART_BYTES;

				m[count] = make(n, &info, at, bytes);
				if (m[count] == NULL)
					break;
				at += bytes;
			}
		head += rte_eth_tx_burst(n->q->id, n->q->index, m + head, (uint16_t)(count - head));
	}
	while (!atomic_load(placed) && *n->failed == 0)
		cpu_pause();
}

static uint64_t place(struct nic_bare *n, struct rte_mbuf *m)
{
	const uint8_t *p = rte_pktmbuf_mtod(m, const uint8_t *);
	struct header h;

	if (m->data_len < HDR_BYTES || p[0] != 0xff || p[UDP_ETHER_BYTES] != 0xff)
		return 0; // of the flow that ran before
	memcpy(&h, p + HDR_BYTES - sizeof(h), sizeof(h));
	if (h.bytes != m->data_len - HDR_BYTES || h.offset + h.bytes > n->bytes ||
		crc32c(0, p + HDR_BYTES, h.bytes) != h.sum) {
		*n->failed = EBADMSG;
		return 0;
	}
	copy_out(n->memory + h.offset, p + HDR_BYTES, h.bytes);
	return h.bytes;
}

void nic_bare_target(struct nic_bare *n, _Atomic bool *placed)
{
	struct rte_mbuf *m[PORT_BURST];

	for (uint64_t bytes = 0; bytes < n->bytes && *n->failed == 0;) {
		unsigned got = rte_eth_rx_burst(n->q->id, n->q->index, m, PORT_BURST);

		for (unsigned i = 0; i < got; i++)
			bytes += place(n, m[i]);
		rte_pktmbuf_free_bulk(m, got);
		if (got == 0)
			cpu_pause();
	}
	copy_out_done();
	atomic_store(placed, true);
}
