// SPDX-License-Identifier: BSD-3-Clause
// The private data of RDMA connections: whatever it is, it is refused, or it says the same when it
// is written again.

#include <stdlib.h>
#include <string.h>

#include "link_rdma_hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t buf[RDMA_HELLO_BYTES];
	struct rdma_hello_accept accept, accept_again;
	struct rdma_hello_ask ask, ask_again;

	if (rdma_hello_get_ask(&ask, data, size) == 0) {
		rdma_hello_put_ask(buf, &ask);
		if (rdma_hello_get_ask(&ask_again, buf, sizeof(buf)) != 0 ||
			memcmp(&ask, &ask_again, sizeof(ask)) != 0)
			abort();
	}
	if (rdma_hello_get_accept(&accept, data, size) == 0) {
		rdma_hello_put_accept(buf, &accept);
		if (rdma_hello_get_accept(&accept_again, buf, sizeof(buf)) != 0 ||
			memcmp(&accept, &accept_again, sizeof(accept)) != 0)
			abort();
	}
	return 0;
}
