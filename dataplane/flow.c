// SPDX-License-Identifier: BSD-3-Clause
// A flow's turn, and how it ends in an error. Run by polling cores; making and freeing is
// flow_open.c's.
//
// Invariant: a flow that failed does nothing more. Memory that goes away under a turn fails that
// flow only (law 7).

#include "flow.h"

#include "cpu.h"
#include "guard.h"
#include "port_impl.h"
#include "recv.h"
#include "send.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

void flow_fail(struct flow *f, int errnum, const char *fmt, ...)
{
	va_list ap;

	if (atomic_load_explicit(&f->error, memory_order_relaxed) != 0)
		return;
	f->why.errnum = errnum;
	va_start(ap, fmt);
	vsnprintf(f->why.text, sizeof(f->why.text), fmt, ap);
	va_end(ap);
	// Release: the sentence is there before control acquires the number.
	atomic_store_explicit(&f->error, errnum, memory_order_release);
}

static void memory_is_gone(struct flow *f, uintptr_t addr)
{
	bool send = f->kind == FLOW_SEND;
	const struct region_map *m =
		send ? ((struct send *)f->priv)->job->map : ((struct recv *)f->priv)->job->map;

	for (unsigned i = 0; i < m->n; i++) {
		uintptr_t base = (uintptr_t)m->r[i].base;

		if (base != 0 && addr - base < m->r[i].bytes) {
			flow_fail(f, EFAULT,
				"region %s can't be %s at offset %llu: the VMM shrank its file, or "
				"its tmpfs or pool of huge pages is used up; look there and start "
				"again",
				m->r[i].name, send ? "read" : "written",
				(unsigned long long)(addr - base));
			return;
		}
	}
	flow_fail(f, EFAULT, "memory that a flow uses is gone; look for a lack of memory here");
}

static void count(struct flow *f, bool moved, uint64_t cycles)
{
	uint64_t wire = f->link->tx_bytes + f->link->rx_bytes;

	if (!moved) {
		stats_add(&f->stats, STAT_cycles_idle, cycles);
		return;
	}
	stats_add(&f->stats, STAT_bytes_wire, wire - stats_get(&f->stats, STAT_bytes_wire));
	atomic_store_explicit(&f->progress,
		atomic_load_explicit(&f->progress, memory_order_relaxed) + 1, memory_order_relaxed);
}

bool flow_poll(struct flow *f)
{
	uint64_t t0 = cpu_cycles();
	struct guard g;
	bool moved;

	if (f->kind == FLOW_PORT)
		return port_turn(f->priv);
	if (atomic_load_explicit(&f->error, memory_order_relaxed) != 0)
		return false;
	if (guard_enter(&g) != 0) {
		memory_is_gone(f, g.addr);
		return true;
	}
	moved = f->kind == FLOW_SEND ? send_turn(f->priv) : recv_turn(f->priv);
	guard_leave();
	count(f, moved, cpu_cycles() - t0);
	return moved;
}

bool flow_leave(struct flow *f)
{
	if (f->kind == FLOW_PORT)
		return port_leave(f->priv);
	return f->link == NULL || f->link->ops->leave == NULL || f->link->ops->leave(f->link);
}
