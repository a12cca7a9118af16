/* SPDX-License-Identifier: BSD-3-Clause */
/* Plain reads of memory, as fast as this core can: what the zero scan is measured against. */
#ifndef GODWIT_BENCH_READ_H
#define GODWIT_BENCH_READ_H

#include <stdint.h>

/* Each reads bytes (a multiple of 4096) and returns something that depends on all of them. */
struct read_loop {
	const char *name;
	const char *cpu; /* feature that it needs */
	uint64_t (*read)(const uint8_t *p, uint64_t bytes);
};

enum { READ_AVX2, READ_AVX2_AHEAD, READ_AVX512, READ_AVX512_AHEAD, READS };
extern const struct read_loop read_loops[READS];
int read_supported(int loop);

#endif
