// SPDX-License-Identifier: BSD-3-Clause
// Control's side of the worker lcores: which one serves which flow, and when they run. Run by the
// control thread; the workers' loop is lcore_main.c.

#include "lcore.h"

#include "lcore_main.h"
#include "mem.h"

#include <errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_ring.h>
#include <stdio.h>
#include <string.h>

// By lcore id: [1, nlcores]. One process has one EAL, so it has one of these.
static struct lcore *lcores[CPULIST_MAX + 1];
static unsigned nlcores;

static struct lcore *worker(unsigned lcore)
{
	return lcore >= 1 && lcore <= nlcores ? lcores[lcore] : NULL;
}

static unsigned flows_of(const struct lcore *l)
{
	// Acquire pairs with the worker's release: its slot is free.
	return l->attached - atomic_load_explicit(&l->released, memory_order_acquire);
}

static int setup_one(unsigned id, unsigned cpu, enum lcore_idle idle, struct err *e)
{
	unsigned node = rte_lcore_to_socket_id(id);
	struct lcore *l = mem_new(sizeof(*l), (int)node);
	char name[32];

	if (l == NULL)
		return err_set(e, ENOMEM, "no memory for lcore %u", id);
	snprintf(name, sizeof(name), "godwit_flows_%u", id);
	// One slot more than flows, as a ring keeps one free.
	l->mailbox =
		rte_ring_create(name, 2 * LCORE_FLOWS, (int)node, RING_F_SP_ENQ | RING_F_SC_DEQ);
	if (l->mailbox == NULL) {
		mem_free(l, sizeof(*l));
		return err_set(e, ENOMEM, "no memory for the mailbox of lcore %u", id);
	}
	l->id = id;
	l->cpu = cpu;
	l->node = node;
	l->idle = idle;
	atomic_init(&l->run, LCORE_PARKED);
	lcores[id] = l;
	return 0;
}

int lcore_setup(const unsigned *cpu, unsigned n, enum lcore_idle idle, struct err *e)
{
	for (unsigned i = 0; i < n; i++) {
		int rc = setup_one(i + 1, cpu[i], idle, e);

		if (rc < 0) {
			lcore_teardown();
			return rc;
		}
		nlcores = i + 1;
	}
	return 0;
}

void lcore_teardown(void)
{
	lcore_park();
	for (unsigned id = 1; id <= nlcores; id++) {
		// Returns when the worker is parked, so all flows must be detached.
		rte_eal_wait_lcore(id);
		rte_ring_free(lcores[id]->mailbox);
		mem_free(lcores[id], sizeof(*lcores[id]));
		lcores[id] = NULL;
	}
	nlcores = 0;
}

unsigned lcore_pick(int node)
{
	unsigned best = 1, best_load = UINT32_MAX;

	for (unsigned id = 1; id <= nlcores; id++) {
		// A core of another node is worth it only where the own ones are all full.
		unsigned away = node >= 0 && lcores[id]->node != (unsigned)node;
		unsigned load = flows_of(lcores[id]) + away * LCORE_FLOWS;

		if (load < best_load) {
			best = id;
			best_load = load;
		}
	}
	return best;
}

unsigned lcore_cpu(unsigned lcore)
{
	return worker(lcore) != NULL ? worker(lcore)->cpu : 0;
}

unsigned lcore_node(unsigned lcore)
{
	return worker(lcore) != NULL ? worker(lcore)->node : 0;
}

unsigned lcore_count(void)
{
	return nlcores;
}

// The worker is parked. -EBUSY when EAL does not take it; then the flow is control's again: nobody
// else reads the mailbox.
static int lcore_launch(struct lcore *l)
{
	void *f;

	if (rte_eal_remote_launch(lcore_main, l, l->id) == 0)
		return 0;
	while (rte_ring_sc_dequeue(l->mailbox, &f) == 0)
		l->attached--;
	atomic_store_explicit(&l->run, LCORE_PARKED, memory_order_release);
	return -EBUSY;
}

bool lcore_is_shared(void)
{
	return nlcores > 0 && lcores[1]->idle == LCORE_IDLE_YIELD;
}

// After a flow was put into the mailbox.
static int wake(struct lcore *l)
{
	int asked = LCORE_PARK_ASKED;

	// Takes a request to park back. If the worker was faster, it is parked, or just about to
	// be: then it is launched anew, once EAL has it back.
	if (atomic_compare_exchange_strong_explicit(
		    &l->run, &asked, LCORE_RUNNING, memory_order_acq_rel, memory_order_acquire) ||
		asked == LCORE_RUNNING)
		return 0;
	rte_eal_wait_lcore(l->id);
	atomic_store_explicit(&l->run, LCORE_RUNNING, memory_order_release);
	return lcore_launch(l);
}

int flow_attach(struct flow *f)
{
	struct lcore *l = worker(f->lcore);

	if (l == NULL)
		return -EINVAL;
	if (flows_of(l) >= LCORE_FLOWS)
		return -ENOSPC;
	atomic_store_explicit(&f->detached, false, memory_order_relaxed);
	// The ring releases the flow's content to the worker.
	if (rte_ring_sp_enqueue(l->mailbox, f) != 0)
		return -ENOSPC;
	l->attached++;
	return wake(l);
}

void flow_detach(struct flow *f)
{
	// Release pairs with the worker's acquire in its turn.
	atomic_store_explicit(&f->stop, true, memory_order_release);
}

void lcore_park(void)
{
	for (unsigned id = 1; id <= nlcores; id++) {
		int running = LCORE_RUNNING;

		if (flows_of(lcores[id]) == 0)
			atomic_compare_exchange_strong_explicit(&lcores[id]->run, &running,
				LCORE_PARK_ASKED, memory_order_acq_rel, memory_order_relaxed);
	}
}

uint64_t lcore_busy_cycles(unsigned lcore)
{
	struct lcore *l = worker(lcore);

	return l == NULL ? 0 : atomic_load_explicit(&l->busy_cycles, memory_order_relaxed);
}

uint64_t lcore_idle_cycles(unsigned lcore)
{
	struct lcore *l = worker(lcore);

	return l == NULL ? 0 : atomic_load_explicit(&l->idle_cycles, memory_order_relaxed);
}
