// SPDX-License-Identifier: BSD-3-Clause
// How many frames the nic link takes before their parts may leave: few raw ones, whose pages are
// still warm; of encoded ones as many as wait where a codec is chosen by backlog.

#include <stdio.h>
#include <stdlib.h>

#include "auto.h"
#include "lcore.h"
#include "link_nic_impl.h"

#define FRAMES 16u

static void must(int rc, const struct err *e)
{
	if (rc >= 0)
		return;
	printf("%s\n", e->text);
	exit(1);
}

// Nothing polls the link, so nothing leaves it.
static unsigned taken(struct port *p, const uint8_t codec[FRAMES])
{
	static uint8_t page[PAGE_BYTES];
	struct link_nic_config c = {
		.port = p, .source = true, .token_in = 1, .token_out = 2, .mtu_most = 1500};
	struct link *l;
	unsigned n = 0;
	struct err e;

	c.udp_port = port_udp_take(p, 0, NULL);
	port_address_parse(&c.peer, "192.0.2.4", PORT_UDP_FIRST);
	must(link_nic_open(&l, &c, &e), &e);
	for (; n < FRAMES; n++) {
		struct link_tx t = {
			.hdr = {.type = FRAME_CHUNK,
				.codec = codec[n],
				.chunk = n,
				.chunks = 1,
				.data = 1,
				.payload_bytes = codec[n] == CODEC_RAW ? PAGE_BYTES : 100},
			.nseg = 1,
			.seg = {{page, codec[n] == CODEC_RAW ? PAGE_BYTES : 100}},
		};

		if (l->ops->tx(l, &t, 1) == 0)
			break;
	}
	l->ops->close(l);
	return n;
}

int main(void)
{
	static const uint8_t raw[FRAMES] = {CODEC_RAW};
	struct port_config c = {
		.name = "test", .device = "net_null0", .queues = 1, .ipv4 = "192.0.2.3/24"};
	struct eal_config eal = {
		.cores = "0", .mem_mb = 128, .no_huge = true, .idle = LCORE_IDLE_YIELD};
	uint8_t encoded[FRAMES];
	struct eal_info info;
	unsigned nraw, nencoded;
	struct port *p = NULL;
	struct err e;

	for (unsigned i = 0; i < FRAMES; i++)
		encoded[i] = CODEC_DEFLATE;
	must(eal_start(&eal, &info, &e), &e);
	must(port_open(&p, &c, &e), &e);
	nraw = taken(p, raw);
	nencoded = taken(p, encoded);
	port_close(p);
	eal_stop();
	if (nraw == NIC_AHEAD && nencoded >= AUTO_WAITING && nencoded < FRAMES)
		return 0;
	printf("WRONG: %u raw frames are taken, %u encoded ones\n", nraw, nencoded);
	return 1;
}
