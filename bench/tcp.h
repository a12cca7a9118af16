/* SPDX-License-Identifier: BSD-3-Clause */
/* A whole flow over loopback tcp, beside the plainest program that does the same. */
#ifndef GODWIT_BENCH_TCP_H
#define GODWIT_BENCH_TCP_H

#include <stdbool.h>

#include "codec.h"
#include "stage.h"

/* Alternates both, rounds times; prints a line each. Returns an exit code. */
int tcp_bench(
	struct bench *b, const struct codec_ops *codec, int level, unsigned rounds, bool json);

#endif
