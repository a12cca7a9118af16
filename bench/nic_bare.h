/* SPDX-License-Identifier: BSD-3-Clause */
/* The plainest loop over two ports that moves memory and would notice damage. */
#ifndef GODWIT_BENCH_NIC_BARE_H
#define GODWIT_BENCH_NIC_BARE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "port_impl.h"

struct nic_bare {
	struct port_queue *q;
	uint8_t *memory;
	uint64_t bytes;
	_Atomic int *failed;
};

/* Until all is gone and *placed; until all is placed, which sets it. */
void nic_bare_source(struct nic_bare *n, _Atomic bool *placed);
void nic_bare_target(struct nic_bare *n, _Atomic bool *placed);

#endif
