/* SPDX-License-Identifier: BSD-3-Clause */
/* A whole flow over a pair of DPDK devices, beside the plainest loop that moves the same pages. */
#ifndef GODWIT_BENCH_NIC_H
#define GODWIT_BENCH_NIC_H

#include <stdbool.h>

#include "codec.h"
#include "stage.h"

/* Alternates the loop and the flow without and with loss, rounds times; prints a line each. Returns
 * an exit code. */
int nic_bench(
	struct bench *b, const struct codec_ops *codec, int level, unsigned rounds, bool json);

#endif
