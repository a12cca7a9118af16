// SPDX-License-Identifier: BSD-3-Clause
// Asks a daemon for an RDMA flow with a token that it never gave: `stray OWN_ADDRESS ADDRESS PORT`.
// Prints what came of it; 0 where it was refused. Run by tests/rdma/cases.py.

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "link_rdma.h"

static bool over, taken;

static bool asked(void *arg, const struct link_rdma_ask *ask, struct link_rdma_welcome *w)
{
	(void)arg;
	(void)ask;
	(void)w;
	return false;
}

static void up(void *arg, struct link *l, const struct err *why)
{
	(void)arg;
	over = true;
	taken = l != NULL;
	printf("%s\n", taken ? "it was let in" : why->text);
}

int main(int argc, char **argv)
{
	const uint8_t token[LINK_RDMA_TOKEN_BYTES] = "what a stranger";
	struct link_rdma_host_config c = {.traffic_class = -1, .asked = asked};
	struct link_rdma_host *h;
	struct link_rdma_domain *domain;
	struct link_rdma_end *end;
	struct err e;

	if (argc != 4)
		return 2;
	c.address = argv[1];
	if (link_rdma_host_open(&h, &c, &e) < 0 || link_rdma_domain_new(&domain, h, &e) < 0 ||
		link_rdma_dial(domain, &end, argv[2], (uint16_t)atoi(argv[3]), token, 0,
			10 * NS_PER_S, up, NULL, &e) < 0) {
		printf("%s\n", e.text);
		return 1;
	}
	while (!over) {
		struct pollfd p = {.fd = link_rdma_host_fd(h), .events = POLLIN};

		poll(&p, 1, 100);
		link_rdma_host_poll(h);
	}
	link_rdma_domain_free(domain);
	link_rdma_host_close(h);
	return taken ? 1 : 0;
}
