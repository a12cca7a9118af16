// SPDX-License-Identifier: BSD-3-Clause
// Reads and writes the private data of a connection. Run by control threads.
//
// Invariant: what was read was whole, of this version and kind, and followed by zeros only: the
// connection manager pads private data to the size of its own messages.

#include "link_rdma_hello.h"

#include "wire.h"

#include <errno.h>
#include <string.h>

enum kind { KIND_ASK = 1, KIND_ACCEPT };

static void begin(struct wire_writer *w, uint8_t buf[RDMA_HELLO_BYTES], enum kind kind)
{
	memset(buf, 0, RDMA_HELLO_BYTES);
	wire_write_init(w, buf, RDMA_HELLO_BYTES);
	wire_put_u16(w, RDMA_HELLO_MAGIC);
	wire_put_u8(w, LINK_RDMA_VERSION);
	wire_put_u8(w, (uint8_t)kind);
}

void rdma_hello_put_ask(uint8_t buf[RDMA_HELLO_BYTES], const struct rdma_hello_ask *a)
{
	struct wire_writer w;

	begin(&w, buf, KIND_ASK);
	wire_put_u32(&w, a->flow);
	wire_put_bytes(&w, a->token, sizeof(a->token));
	wire_put_u32(&w, a->mtu);
}

void rdma_hello_put_accept(uint8_t buf[RDMA_HELLO_BYTES], const struct rdma_hello_accept *a)
{
	struct wire_writer w;

	begin(&w, buf, KIND_ACCEPT);
	wire_put_u32(&w, a->slots);
	wire_put_u32(&w, a->slot_bytes);
	wire_put_u32(&w, a->frames);
	wire_put_u32(&w, a->rkey);
	wire_put_u64(&w, a->addr);
	wire_put_u32(&w, a->mtu);
}

static int open_hello(struct wire_reader *r, const void *data, size_t bytes, enum kind kind)
{
	uint16_t magic;
	uint8_t version, is;

	wire_read_init(r, data, data != NULL ? bytes : 0);
	magic = wire_u16(r);
	version = wire_u8(r);
	is = wire_u8(r);
	if (!wire_ok(r) || magic != RDMA_HELLO_MAGIC)
		return -EPROTO;
	if (version != LINK_RDMA_VERSION)
		return -EPROTONOSUPPORT;
	return is == (uint8_t)kind ? 0 : -EPROTO;
}

bool rdma_hello_mtu(uint32_t bytes)
{
	return bytes >= 256 && bytes <= 4096 && (bytes & (bytes - 1)) == 0;
}

// What comes last, and zeros.
static int end(struct wire_reader *r, uint32_t *mtu)
{
	*mtu = wire_u32(r);
	if (wire_ok(r) && !rdma_hello_mtu(*mtu))
		return -EPROTO;
	while (wire_ok(r) && wire_left(r) > 0)
		if (wire_u8(r) != 0)
			return -EPROTO;
	return wire_ok(r) ? 0 : -EPROTO;
}

int rdma_hello_get_ask(struct rdma_hello_ask *a, const void *data, size_t bytes)
{
	struct wire_reader r;
	int rc = open_hello(&r, data, bytes, KIND_ASK);

	if (rc < 0)
		return rc;
	a->flow = wire_u32(&r);
	wire_bytes(&r, a->token, sizeof(a->token));
	return end(&r, &a->mtu);
}

int rdma_hello_get_accept(struct rdma_hello_accept *a, const void *data, size_t bytes)
{
	struct wire_reader r;
	int rc = open_hello(&r, data, bytes, KIND_ACCEPT);

	if (rc < 0)
		return rc;
	a->slots = wire_u32(&r);
	a->slot_bytes = wire_u32(&r);
	a->frames = wire_u32(&r);
	a->rkey = wire_u32(&r);
	a->addr = wire_u64(&r);
	return end(&r, &a->mtu);
}
