/* SPDX-License-Identifier: BSD-3-Clause */
/* How long a cache line takes from one core to another and back: printed beside whatever two cores
 * did together, because on shared machines it varies and everything between cores varies with it.
 */
#ifndef GODWIT_BENCH_PINGPONG_H
#define GODWIT_BENCH_PINGPONG_H

/* Nanoseconds of a round trip between the two CPUs; 0 when they can't be had. */
double pingpong_ns(int cpu_a, int cpu_b);

/* Runs the calling thread on one CPU. 0 or -errno. */
int pin(int cpu);

#endif
