// SPDX-License-Identifier: BSD-3-Clause
// Stands for the rdma link in a program that was built without rdma-core. Run by control threads.

#include "link_rdma.h"

#include <errno.h>

int link_rdma_host_open(
	struct link_rdma_host **h, const struct link_rdma_host_config *c, struct err *e)
{
	(void)h;
	(void)c;
	return err_set(e, ENOTSUP,
		"rdma: this godwitd was built without rdma-core; install librdmacm and build it "
		"again");
}

void link_rdma_host_close(struct link_rdma_host *h)
{
	(void)h;
}

void link_rdma_host_info(const struct link_rdma_host *h, struct link_rdma_info *i)
{
	(void)h;
	*i = (struct link_rdma_info){.node = -1};
}

int link_rdma_host_fd(const struct link_rdma_host *h)
{
	(void)h;
	return -1;
}

void link_rdma_host_poll(struct link_rdma_host *h)
{
	(void)h;
}

int link_rdma_dial(struct link_rdma_host *h, struct link_rdma_end **end, const char *address,
	uint16_t port, const uint8_t token[LINK_RDMA_TOKEN_BYTES], uint32_t flow, uint64_t wait_ns,
	link_rdma_up_fn up, void *arg, struct err *e)
{
	(void)h;
	(void)end;
	(void)address;
	(void)port;
	(void)token;
	(void)flow;
	(void)wait_ns;
	(void)up;
	(void)arg;
	return err_set(e, ENOTSUP, "rdma: this godwitd was built without rdma-core");
}

void link_rdma_cancel(struct link_rdma_end *end)
{
	(void)end;
}

uint64_t link_rdma_locked_bytes(void)
{
	return 0;
}
