// SPDX-License-Identifier: BSD-3-Clause
// What really went over a wire, as another program on it sees it: each frame of a capture is read
// with the program's own readers, by the rules of PROTOCOL.md.

#include "nic_world.h"

#include "packet.h"
#include "udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CAPTURE_BYTES (256 << 20)

int world_capture(const struct world *w)
{
	struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int bytes = CAPTURE_BYTES;

	at.sll_ifindex = (int)if_nametoindex(w->veth[0]);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0 ||
		bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0)
		world_fail("%s can't be listened to", w->veth[0]);
	return fd;
}

// The datagram in a frame of either direction; NULL: there is none.
static const uint8_t *datagram(const uint8_t *frame, size_t len, size_t *bytes)
{
	struct udp_own own = {.has4 = true};
	struct udp_seen s;

	if (len < UDP_ETHER_BYTES)
		return NULL;
	memcpy(own.mac, frame, sizeof(own.mac));
	for (uint8_t host = 1; host <= 2; host++) {
		own.ip4 = (struct udp_addr){.ip = {192, 0, 2, host}};
		if (udp_parse(&own, frame, len, len, true, &s) == UDP_DATAGRAM) {
			*bytes = s.bytes;
			return frame + s.at;
		}
	}
	return NULL;
}

static bool is_good(const struct packet *p, const uint8_t *buf)
{
	struct packet_data d;
	struct packet_ping g;
	struct packet_ack a;
	struct packet_bye b;
	struct frame f;

	switch (p->type) {
	case PACKET_DATA:
		return packet_get_data(&d, p, buf) == 0 && frame_decode(&f, d.frame) == 0 &&
		       d.offset + d.bytes <= f.payload_bytes && d.settled_back <= f.seq;
	case PACKET_PING:
		return packet_get_ping(&g, p, buf) == 0;
	case PACKET_ACK:
		return packet_get_ack(&a, p, buf) == 0;
	default:
		return packet_get_bye(&b, p, buf) == 0;
	}
}

void world_read_capture(int fd)
{
	static uint8_t frame[65536];
	unsigned seen[PACKET_BYE + 1] = {0};
	ssize_t len;

	// The device is gone by now, which is said once.
	while ((len = recv(fd, frame, sizeof(frame), 0)) > 0 || errno == ENETDOWN) {
		uint64_t token = 0;
		const uint8_t *buf;
		struct packet p;
		size_t bytes;

		errno = 0;
		if (len < 0)
			continue;
		buf = datagram(frame, (size_t)len, &bytes);
		if (buf == NULL || bytes < PACKET_HDR_BYTES)
			continue; // ARP, and what the kernel says of itself
		for (unsigned i = 0; i < 8; i++)
			token |= (uint64_t)buf[8 + i] << 8 * i;
		if (token < WORLD_TOKEN || token >= WORLD_TOKEN + 2 * WORLD_FLOWS)
			world_fail("a datagram with a token of nobody's");
		if (packet_open(&p, token, buf, bytes) < 0 || !is_good(&p, buf))
			world_fail("a datagram of %zu bytes breaks a rule", bytes);
		seen[p.type]++;
	}
	close(fd);
	printf("captured: %u DATA, %u PING, %u ACK, %u BYE\n", seen[PACKET_DATA], seen[PACKET_PING],
		seen[PACKET_ACK], seen[PACKET_BYE]);
	for (unsigned t = PACKET_DATA; t <= PACKET_BYE; t++)
		if (seen[t] == 0)
			world_fail("none of type %u was captured", t);
}
