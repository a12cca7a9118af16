/* SPDX-License-Identifier: BSD-3-Clause */
/* A whole flow over a pair of DPDK devices, net_memif or two that are named, beside the plainest
 * loop that moves the same pages. */
#ifndef GODWIT_BENCH_NIC_H
#define GODWIT_BENCH_NIC_H

#include "options.h"
#include "stage.h"

/* Alternates the loop and the flow without and with loss, rounds times; prints a line each. The
 * loop is for net_memif alone: it does not notice what a device loses. Words are the source's
 * device and the target's, as in port_config. Returns an exit code. */
int nic_bench(struct bench *b, const struct options *o);

#endif
