// SPDX-License-Identifier: BSD-3-Clause
// The ping-pong: two threads, one word.

#include "pingpong.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

#include "clock.h"
#include "cpu.h"

#define TRIPS 20000u

struct ball {
	_Atomic uint64_t word __cacheline;
	int cpu;
	int failed;
};

int pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) == 0 ? 0 : -errno;
}

// Each side waits for its parity and passes the next number on.
static void play(struct ball *b, uint64_t first)
{
	for (uint64_t i = first; i < 2 * TRIPS; i += 2) {
		while (atomic_load_explicit(&b->word, memory_order_acquire) != i)
			;
		atomic_store_explicit(&b->word, i + 1, memory_order_release);
	}
}

static void *other(void *arg)
{
	struct ball *b = arg;

	b->failed = pin(b->cpu);
	play(b, 1);
	return NULL;
}

double pingpong_ns(int cpu_a, int cpu_b)
{
	struct ball b = {.cpu = cpu_b};
	cpu_set_t before;
	pthread_t thread;
	uint64_t t0;

	if (cpu_a == cpu_b || pthread_getaffinity_np(pthread_self(), sizeof(before), &before) != 0)
		return 0;
	if (pin(cpu_a) != 0 || pthread_create(&thread, NULL, other, &b) != 0)
		return 0;
	t0 = clock_ns();
	play(&b, 0);
	t0 = clock_ns() - t0;
	pthread_join(thread, NULL);
	pthread_setaffinity_np(pthread_self(), sizeof(before), &before);
	return b.failed != 0 ? 0 : (double)t0 / TRIPS;
}
