// SPDX-License-Identifier: BSD-3-Clause
// The flows of a session as control sees them: the words that their lcores leave, and when they
// have let go. Run by the control loop.

#include "session_impl.h"

#include "clock.h"
#include "lcore.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void session_sum_stats(struct session *s)
{
	uint64_t sum[STATS];
	bool any = false;

	memcpy(sum, s->fig.stats_gone, sizeof(sum));
	for (unsigned i = 0; i < s->nflows; i++) {
		if (s->flow[i] == NULL)
			continue;
		stats_sum(sum, &s->flow[i]->stats);
		any = true;
	}
	if (any)
		memcpy(s->fig.stats, sum, sizeof(sum));
	flows_nic_sum(s);
}

int session_flow_begin(
	struct session *s, unsigned i, struct link *link, unsigned lcore, struct err *e)
{
	int node = (int)lcore_node(lcore);
	int rc;

	link->tells_busy = s->tells_busy;
	rc = session_seal_link(s, link, i, node, e);
	if (rc == 0)
		rc = s->source ? flow_send_new(&s->flow[i], &s->send, link, lcore, node, e)
			       : flow_recv_new(&s->flow[i], &s->recv, link, lcore, node, e);
	if (rc < 0)
		return rc;
	flow_begin_at(s->flow[i], s->next_pass);
	rc = flow_attach(s->flow[i]);
	if (rc < 0)
		return err_sys(e, -rc, "cannot give flow %u to core %u", i, lcore_cpu(lcore));
	s->attached[i] = true;
	s->flow_cpu[i] = lcore_cpu(lcore);
	s->flows_up++;
	return 0;
}

bool session_flows_work(struct session *s)
{
	uint64_t moved = 0;

	if (!flows_nic_work(s))
		return false;
	for (unsigned i = 0; i < s->nflows; i++) {
		struct flow *f = s->flow[i];

		if (f == NULL)
			continue;
		/* acquire: pairs with the release in flow_fail(), so that why is whole */
		if (atomic_load_explicit(&f->error, memory_order_acquire) != 0) {
			struct err e = {.errnum = f->why.errnum};

			snprintf(e.text, sizeof(e.text), "flow %u: %.280s", i, f->why.text);
			reconnect_or_fail(s, &e);
			return false;
		}
		moved += atomic_load_explicit(&f->progress, memory_order_relaxed);
	}
	if (moved != s->progress_seen) {
		s->progress_seen = moved;
		s->progress_ns = clock_ns();
	}
	return true;
}

bool session_flows_detached(const struct session *s)
{
	for (unsigned i = 0; i < s->nflows; i++)
		/* acquire: pairs with the lcore's release of its last turn */
		if (s->flow[i] != NULL && s->attached[i] &&
			!atomic_load_explicit(&s->flow[i]->detached, memory_order_acquire))
			return false;
	return true;
}

bool session_flows_passed(const struct session *s)
{
	for (unsigned i = 0; i < s->nflows; i++)
		/* acquire: pairs with the lcore's release; its writes to the planes are seen */
		if (atomic_load_explicit(&s->flow[i]->done_pass, memory_order_acquire) !=
			s->next_pass)
			return false;
	return true;
}

bool session_flows_gone(struct session *s)
{
	if (!session_flows_detached(s))
		return false;
	session_sum_stats(s);
	for (unsigned i = 0; i < s->nflows; i++) {
		flow_free(s->flow[i]);
		s->flow[i] = NULL;
	}
	return true;
}

int flows_accept(struct session *s, const char *link, json_t *msg, struct err *e)
{
	if (strcmp(link, "tcp") == 0)
		return 0;
	if (strcmp(link, "nic") == 0)
		return flows_nic_accept(s, msg, e);
	if (strcmp(link, "rdma") == 0)
		return flows_rdma_accept(s, msg, e);
	return err_set(e, ENOTSUP,
		"the target's Godwit has no link %s; install the same version on both hosts", link);
}
