/* SPDX-License-Identifier: BSD-3-Clause */
/* A whole flow over the rdma link, in writes of several sizes. */
#ifndef GODWIT_BENCH_RDMA_H
#define GODWIT_BENCH_RDMA_H

#include <stdbool.h>

#include "stage.h"

/* By the RDMA device that has the address. Prints a line for each size, rounds times. Returns an
 * exit code. */
int rdma_bench(struct bench *b, const char *address, unsigned rounds, bool json);

#endif
