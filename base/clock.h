/* SPDX-License-Identifier: BSD-3-Clause */
/* Nanoseconds of the monotonic clock. Not for polling cores: they use cpu_cycles(). */
#ifndef GODWIT_BASE_CLOCK_H
#define GODWIT_BASE_CLOCK_H

#include <stdint.h>

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_US UINT64_C(1000)

uint64_t clock_ns(void);

/* Cycles of cpu_cycles() in a second; measured once against the monotonic clock (10 ms). */
uint64_t clock_cycles_hz(void);

#endif
