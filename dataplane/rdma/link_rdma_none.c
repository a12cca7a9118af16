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

unsigned link_rdma_probe(struct link_rdma_can *can, unsigned most)
{
	(void)can;
	(void)most;
	return 0;
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

bool link_rdma_host_gone(const struct link_rdma_host *h)
{
	(void)h;
	return false;
}

bool link_rdma_host_idle(const struct link_rdma_host *h)
{
	(void)h;
	return true;
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

int link_rdma_dial(struct link_rdma_domain *domain, struct link_rdma_end **end, const char *address,
	uint16_t port, const uint8_t token[LINK_RDMA_TOKEN_BYTES], uint32_t flow, uint64_t wait_ns,
	link_rdma_up_fn up, void *arg, struct err *e)
{
	(void)domain;
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

int link_rdma_domain_new(struct link_rdma_domain **d, struct link_rdma_host *h, struct err *e)
{
	(void)d;
	(void)h;
	return err_set(e, ENOTSUP, "rdma: this godwitd was built without rdma-core");
}

void link_rdma_domain_free(struct link_rdma_domain *d)
{
	(void)d;
}

int link_rdma_memory_lend(struct link_rdma_memory **m, struct link_rdma_domain *d,
	struct region_map *map, link_rdma_walk walk, struct err *e)
{
	(void)m;
	(void)d;
	(void)map;
	(void)walk;
	return err_set(e, ENOTSUP, "rdma: this godwitd was built without rdma-core");
}

int link_rdma_memory_new(struct link_rdma_memory **m, struct link_rdma_domain *d,
	struct region_map *map, const bool which[REGION_MAX], struct err *e)
{
	(void)m;
	(void)d;
	(void)map;
	(void)which;
	return err_set(e, ENOTSUP, "rdma: this godwitd was built without rdma-core");
}

int link_rdma_memory_turns(struct link_rdma_memory **m, struct link_rdma_domain *d,
	struct region_map *map, const bool which[REGION_MAX], uint64_t window_bytes, uint32_t most,
	struct err *e)
{
	(void)window_bytes;
	(void)most;
	return link_rdma_memory_new(m, d, map, which, e);
}

int link_rdma_memory_want(struct link_rdma_memory *m, uint64_t window)
{
	(void)m;
	(void)window;
	return -EPROTO;
}

int link_rdma_memory_drop(struct link_rdma_memory *m, uint64_t window)
{
	return link_rdma_memory_want(m, window);
}

bool link_rdma_memory_said(struct link_rdma_memory *m, struct link_rdma_said *said)
{
	(void)m;
	(void)said;
	return false;
}

bool link_rdma_memory_busy(const struct link_rdma_memory *m)
{
	(void)m;
	return false;
}

bool link_rdma_memory_forget(struct link_rdma_memory *m)
{
	(void)m;
	return true;
}

void link_rdma_by_turns(struct link *l, struct link_rdma_pool *pool, unsigned lane)
{
	(void)l;
	(void)pool;
	(void)lane;
}

int link_rdma_memory_ready(const struct link_rdma_memory *m, struct err *e)
{
	(void)m;
	return err_set(e, ENOTSUP, "rdma: this godwitd was built without rdma-core");
}

uint32_t link_rdma_memory_windows(
	const struct link_rdma_memory *m, unsigned region, uint64_t *window_bytes)
{
	(void)m;
	(void)region;
	*window_bytes = 0;
	return 0;
}

bool link_rdma_memory_key(
	const struct link_rdma_memory *m, unsigned region, uint32_t window, struct link_rdma_key *k)
{
	(void)m;
	(void)region;
	(void)window;
	*k = (struct link_rdma_key){0};
	return false;
}

void link_rdma_memory_end(struct link_rdma_memory *m)
{
	(void)m;
}

bool link_rdma_memory_ended(const struct link_rdma_memory *m)
{
	(void)m;
	return true;
}

void link_rdma_memory_figures(const struct link_rdma_memory *m, struct link_rdma_registered *r)
{
	(void)m;
	*r = (struct link_rdma_registered){0};
}

void link_rdma_memory_free(struct link_rdma_memory *m)
{
	(void)m;
}

void link_rdma_direct(struct link *l, const struct link_rdma_key *keys)
{
	(void)l;
	(void)keys;
}

unsigned link_rdma_mtu(const struct link *l)
{
	(void)l;
	return 0;
}

void link_rdma_windows(struct link *l, const struct link_rdma_windows *windows)
{
	(void)l;
	(void)windows;
}

void link_rdma_read(struct link *l, const struct link_rdma_memory *from)
{
	(void)l;
	(void)from;
}

void link_rdma_careful(struct link *l)
{
	(void)l;
}

uint64_t link_rdma_locked_bytes(void)
{
	return 0;
}
