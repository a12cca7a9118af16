/* SPDX-License-Identifier: BSD-3-Clause */
/* The private data of a connection: what both ends of an rdma flow say to each other while it is
 * made. Little-endian, versioned; see PROTOCOL.md, section 6. No memory, no device. */
#ifndef GODWIT_DATAPLANE_LINK_RDMA_HELLO_H
#define GODWIT_DATAPLANE_LINK_RDMA_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "link_rdma.h"

#define RDMA_HELLO_MAGIC 0x4752u
#define RDMA_HELLO_BYTES 32u /* of either; the rest of the private data is zeros */

/* source to target */
struct rdma_hello_ask {
	uint32_t flow;
	uint8_t token[LINK_RDMA_TOKEN_BYTES];
	uint32_t mtu; /* payload of a packet, at most */
};

/* target to source: where its slots are */
struct rdma_hello_accept {
	uint32_t slots, slot_bytes, frames;
	uint32_t rkey;
	uint64_t addr;
	uint32_t mtu; /* of the path: no more than the source asked for */
};

/* Is it one that InfiniBand has? 256 to 4096, a power of two. */
bool rdma_hello_mtu(uint32_t bytes);

void rdma_hello_put_ask(uint8_t buf[RDMA_HELLO_BYTES], const struct rdma_hello_ask *a);
void rdma_hello_put_accept(uint8_t buf[RDMA_HELLO_BYTES], const struct rdma_hello_accept *a);

/* Each: 0, -EPROTO for what is none, -EPROTONOSUPPORT for another version. data may be NULL. */
int rdma_hello_get_ask(struct rdma_hello_ask *a, const void *data, size_t bytes);
int rdma_hello_get_accept(struct rdma_hello_accept *a, const void *data, size_t bytes);

#endif
