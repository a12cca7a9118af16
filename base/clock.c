// SPDX-License-Identifier: BSD-3-Clause
// The monotonic clock, and the frequency of the time-stamp counter.

#include "clock.h"

#include "cpu.h"

#include <stdatomic.h>
#include <time.h>

uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t clock_cycles_hz(void)
{
	/* Any thread may be first; all would store nearly the same figure. */
	static _Atomic uint64_t hz;
	uint64_t known = atomic_load_explicit(&hz, memory_order_relaxed);

	if (known == 0) {
		uint64_t t0 = clock_ns(), c0 = cpu_cycles(), t1, c1;

		do {
			t1 = clock_ns();
			c1 = cpu_cycles();
		} while (t1 - t0 < 10 * NS_PER_MS);
		known = (uint64_t)((double)(c1 - c0) * (double)NS_PER_S / (double)(t1 - t0));
		atomic_store_explicit(&hz, known, memory_order_relaxed);
	}
	return known;
}
