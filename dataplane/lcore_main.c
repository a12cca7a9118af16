// SPDX-License-Identifier: BSD-3-Clause
// The loop of a worker lcore. Run by that lcore; no system call but those of give_way() where
// the core is shared, no lock, log or allocation.
//
// Invariants: a flow is in the mailbox, or in flow[], or let go; after `detached` is set the worker
// never touches it again. The worker parks only when both are empty.

#include "lcore_main.h"

#include "cpu.h"

#include <rte_ring.h>
#include <sched.h>
#include <sys/prctl.h>
#include <time.h>

// Empty turns before a shared core is given to others; a turn is some 100 ns. A thread that only
// yielded was seen to get some 57 turns a second beside busy ones, with data waiting. So after a
// few yields it naps. Waking costs about 5 us: naps grow with the time that nothing came, and stay
// a small part of it, for nothing that has begun to flow is to wait.
#define EMPTY_TURNS 64u
#define YIELD_TURNS 16u
#define NAP_NS      20000
#define NAPS        64u // before they are twice as long
#define NAP_DOUBLES 4u

// For so many cycles, some milliseconds, it is added up how busy the core is.
#define WINDOW_CYCLES (1u << 22)

static void add(_Atomic uint64_t *v, uint64_t n)
{
	atomic_store_explicit(
		v, atomic_load_explicit(v, memory_order_relaxed) + n, memory_order_relaxed);
}

static void read_mailbox(struct lcore *l)
{
	void *f;

	// Control counts, so there is always room.
	while (l->nflows < LCORE_FLOWS && rte_ring_sc_dequeue(l->mailbox, &f) == 0)
		l->flow[l->nflows++] = f;
}

static void release(struct lcore *l, unsigned i)
{
	struct flow *f = l->flow[i];

	l->flow[i] = l->flow[--l->nflows];
	// Release: all that this core wrote to the flow comes before control may free it.
	atomic_store_explicit(&f->detached, true, memory_order_release);
	atomic_store_explicit(&l->released,
		atomic_load_explicit(&l->released, memory_order_relaxed) + 1, memory_order_release);
}

static bool turn(struct lcore *l)
{
	bool moved = false;

	for (unsigned i = 0; i < l->nflows;) {
		// Acquire pairs with flow_detach(): what control did before is seen.
		if (!atomic_load_explicit(&l->flow[i]->stop, memory_order_acquire)) {
			moved |= flow_poll(l->flow[i]);
		} else if (flow_leave(l->flow[i])) {
			release(l, i);
			moved = true;
			continue;
		}
		i++;
	}
	return moved;
}

// Adds up what a turn took, and tells the links now and then.
static void count(struct lcore *l, bool moved, uint64_t cycles)
{
	uint8_t busy;

	add(moved ? &l->busy_cycles : &l->idle_cycles, cycles);
	l->window_cycles += cycles;
	l->window_busy_cycles += moved ? cycles : 0;
	if (l->window_cycles < WINDOW_CYCLES)
		return;
	busy = (uint8_t)(l->window_busy_cycles * 255 / l->window_cycles);
	for (unsigned i = 0; i < l->nflows; i++)
		if (l->flow[i]->link != NULL)
			l->flow[i]->link->busy = busy;
	l->window_cycles = l->window_busy_cycles = 0;
}

static void give_way(unsigned empty)
{
	if (empty < EMPTY_TURNS) {
		cpu_pause();
	} else if (empty < EMPTY_TURNS + YIELD_TURNS) {
		sched_yield();
	} else {
		unsigned doubles = (empty - EMPTY_TURNS - YIELD_TURNS) / NAPS;
		const struct timespec nap = {
			.tv_nsec = NAP_NS << (doubles < NAP_DOUBLES ? doubles : NAP_DOUBLES)};

		clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
	}
}

// The time that a core gave away, or paused, is idle time of the flows that had nothing for it.
static void share_rest(struct lcore *l, uint64_t cycles)
{
	unsigned n = 0;

	for (unsigned i = 0; i < l->nflows; i++)
		n += l->flow[i]->kind != FLOW_PORT;
	for (unsigned i = 0; i < l->nflows; i++)
		if (l->flow[i]->kind != FLOW_PORT)
			stats_add(&l->flow[i]->stats, STAT_cycles_idle, cycles / n);
}

static bool may_park(struct lcore *l)
{
	int asked = LCORE_PARK_ASKED;

	if (l->nflows > 0 || !rte_ring_empty(l->mailbox))
		return false;
	// Fails if control attached a flow since: it took its request back.
	return atomic_compare_exchange_strong_explicit(
		&l->run, &asked, LCORE_PARKED, memory_order_acq_rel, memory_order_relaxed);
}

int lcore_main(void *arg)
{
	struct lcore *l = arg;
	uint64_t then = cpu_cycles();
	unsigned empty = 0;

	// A nap of microseconds must not become one of the kernel's default slack of 50.
	prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);

	for (;;) {
		uint64_t now;
		bool moved;

		if (!rte_ring_empty(l->mailbox))
			read_mailbox(l);
		moved = turn(l);
		if (!moved &&
			atomic_load_explicit(&l->run, memory_order_relaxed) == LCORE_PARK_ASKED &&
			may_park(l))
			return 0;
		empty = moved ? 0 : empty + 1;
		if (!moved) {
			uint64_t rest = cpu_cycles();

			if (l->idle == LCORE_IDLE_YIELD)
				give_way(empty);
			else
				cpu_pause();
			share_rest(l, cpu_cycles() - rest);
		}
		now = cpu_cycles();
		count(l, moved, now - then);
		then = now;
	}
}
