// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: any bytes as one packet of the agent protocol, then taken for a region and for a
// hello. What is accepted must survive encoding, and a region must lie within the limits.

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent_proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
	if (!holds)
		abort();
}

static void check_views(const struct region *r)
{
	check(r->nviews <= REGION_VIEWS && r->bytes <= REGION_BYTES_MAX);
	for (unsigned i = 0; i < r->nviews; i++) {
		const struct view *v = &r->views[i];

		check(v->bytes > 0 && v->offset_bytes <= r->bytes &&
			v->bytes <= r->bytes - v->offset_bytes);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct region_map map;
	static int ram = -1;
	uint8_t buf[AGENT_MSG_BYTES];
	struct agent_msg m, back;
	struct agent_hello h;
	struct err e;
	int i;

	if (ram < 0) {
		ram = memfd_create("ram", MFD_CLOEXEC);
		check(ram >= 0 && ftruncate(ram, (off_t)REGION_BYTES_MAX) == 0);
	}
	m.fd = -1;
	if (agent_decode(&m, data, size, &e) < 0)
		return 0;
	check(agent_encode(&m, buf) == size && memcmp(buf, data, size) == 0);
	back.fd = -1;
	check(agent_decode(&back, buf, size, &e) == 0);
	agent_get_hello(&m, &h, &e);
	m.fd = dup(ram);
	i = agent_get_region(&m, &map, &e);
	check(m.fd == -1);
	if (i == 0) {
		check(map.n == 1);
		check_views(&map.r[0]);
		agent_put_region(&back, &map.r[0]);
		check(back.a == m.a && back.b == m.b && back.body_bytes == m.body_bytes);
	} else {
		check(i == -EPROTO && map.n == 0 && map.nchunks == 0);
	}
	region_map_close(&map);
	return 0;
}
