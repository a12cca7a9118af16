/* SPDX-License-Identifier: BSD-3-Clause */
/* What a polling loop needs from the CPU. */
#ifndef GODWIT_BASE_CPU_H
#define GODWIT_BASE_CPU_H

#include <stdint.h>

#define CACHE_LINE  64
#define __cacheline __attribute__((aligned(CACHE_LINE)))

static inline void cpu_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("" ::: "memory");
#endif
}

/* Time-stamp counter: cycles, monotonic on one host. Outside x86-64 it counts nanoseconds. */
#if defined(__x86_64__)
static inline uint64_t cpu_cycles(void)
{
	return __builtin_ia32_rdtsc();
}
#else
#include "clock.h"
static inline uint64_t cpu_cycles(void)
{
	return clock_ns();
}
#endif

#endif
