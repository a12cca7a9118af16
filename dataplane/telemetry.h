/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands of DPDK's telemetry socket, from the list of counters:
 *   /godwit/counters,source|target   each counter's sum over all flows since the daemon's start
 *   /godwit/cores                    each worker: its CPU, NUMA node, busy and idle cycles
 *   /godwit/help                     what each counter counts
 * DPDK answers on a thread of its own, which reads what control published last, and no flow. */
#ifndef GODWIT_DATAPLANE_TELEMETRY_H
#define GODWIT_DATAPLANE_TELEMETRY_H

#include <stdint.h>

#include "err.h"
#include "stats.h"

/* After eal_start() with telemetry. 0 or -errno with e set. */
int telemetry_start(struct err *e);
/* sum: source, target. Control thread, at its own slow pace. */
void telemetry_publish(uint64_t sum[2][STATS]);

#endif
