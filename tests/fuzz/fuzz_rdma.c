// SPDX-License-Identifier: BSD-3-Clause
// The private data of RDMA connections: whatever it is, it is refused, or it says the same when it
// is written again, byte for byte.

#include <stdlib.h>
#include <string.h>

#include "link_rdma_hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// What comes may be longer, by zeros.
static void same(const uint8_t buf[RDMA_HELLO_BYTES], const uint8_t *data, size_t size)
{
	if (memcmp(buf, data, size < RDMA_HELLO_BYTES ? size : RDMA_HELLO_BYTES) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t buf[RDMA_HELLO_BYTES], again[RDMA_HELLO_BYTES];
	struct rdma_hello_accept accept, accept_again;
	struct rdma_hello_ask ask, ask_again;

	if (rdma_hello_get_ask(&ask, data, size) == 0) {
		rdma_hello_put_ask(buf, &ask);
		same(buf, data, size);
		if (rdma_hello_get_ask(&ask_again, buf, sizeof(buf)) != 0)
			abort();
		rdma_hello_put_ask(again, &ask_again);
		same(again, buf, sizeof(buf));
	}
	if (rdma_hello_get_accept(&accept, data, size) == 0) {
		rdma_hello_put_accept(buf, &accept);
		same(buf, data, size);
		if (rdma_hello_get_accept(&accept_again, buf, sizeof(buf)) != 0)
			abort();
		rdma_hello_put_accept(again, &accept_again);
		same(again, buf, sizeof(buf));
	}
	return 0;
}
