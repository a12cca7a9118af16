// SPDX-License-Identifier: BSD-3-Clause
// The gate for vCPU threads. Closed and opened by the agent's thread and the main thread, passed by
// vCPU threads. Invariant: after gate_close() no vCPU thread runs guest code until gate_open().

#include "gate.h"

#include "clock.h"

#include <time.h>

void gate_init(struct gate *g, unsigned reasons, void (*kick)(void *arg), void *kick_arg)
{
	pthread_condattr_t attr;

	*g = (struct gate){.reasons = reasons, .kick = kick, .kick_arg = kick_arg};
	pthread_mutex_init(&g->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&g->changed, &attr);
	pthread_condattr_destroy(&attr);
}

// must_leave() reads without the lock, so the stores are atomic; whoever acts on it comes to
// gate_leave() and gate_enter(), whose lock orders everything else.
static void set_reasons(struct gate *g, unsigned reasons)
{
	__atomic_store_n(&g->reasons, reasons, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&g->changed);
}

void gate_close(struct gate *g, unsigned reason)
{
	pthread_mutex_lock(&g->lock);
	set_reasons(g, g->reasons | reason);
	g->kick(g->kick_arg);
	while (g->inside > 0)
		pthread_cond_wait(&g->changed, &g->lock);
	pthread_mutex_unlock(&g->lock);
}

void gate_open(struct gate *g, unsigned reason)
{
	pthread_mutex_lock(&g->lock);
	set_reasons(g, g->reasons & ~reason);
	pthread_mutex_unlock(&g->lock);
}

void gate_quit(struct gate *g)
{
	pthread_mutex_lock(&g->lock);
	__atomic_store_n(&g->quit, true, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&g->changed);
	g->kick(g->kick_arg);
	pthread_mutex_unlock(&g->lock);
}

unsigned gate_reasons(struct gate *g)
{
	return __atomic_load_n(&g->reasons, __ATOMIC_ACQUIRE);
}

bool gate_enter(struct gate *g)
{
	bool in;

	pthread_mutex_lock(&g->lock);
	while (g->reasons != 0 && !g->quit)
		pthread_cond_wait(&g->changed, &g->lock);
	in = !g->quit;
	if (in)
		g->inside++;
	pthread_mutex_unlock(&g->lock);
	return in;
}

void gate_leave(struct gate *g)
{
	pthread_mutex_lock(&g->lock);
	g->inside--;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
}

bool gate_must_leave(const struct gate *g)
{
	return __atomic_load_n(&g->reasons, __ATOMIC_RELAXED) != 0 ||
	       __atomic_load_n(&g->quit, __ATOMIC_RELAXED);
}

void gate_sleep(struct gate *g, uint64_t until_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(until_ns / NS_PER_S), .tv_nsec = (long)(until_ns % NS_PER_S)};

	pthread_mutex_lock(&g->lock);
	while (!gate_must_leave(g) && pthread_cond_timedwait(&g->changed, &g->lock, &ts) == 0)
		;
	pthread_mutex_unlock(&g->lock);
}
