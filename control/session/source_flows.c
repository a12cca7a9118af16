// SPDX-License-Identifier: BSD-3-Clause
// The source's flows over tcp: dialled one after the other, each given to an lcore. Run by the
// control loop.

#include "session_impl.h"

#include "affinity.h"
#include "lcore.h"

#include <errno.h>
#include <string.h>

#define DIAL_DEADLINE_MS 5000

/* A core that the guest uses too delays both. */
void flows_up(struct session *s)
{
	char text[AFFINITY_TEXT];
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	reconnect_joined(s);
	for (unsigned i = 0; i < s->flows_up; i++)
		CPU_SET(s->flow_cpu[i], &cpus);
	if (affinity_meets((pid_t)s->hello.pid, &cpus, text))
		watch_text(s, LOG_WARN, "%s", text);
}

static void on_flows(struct session *s, json_t *answer)
{
	(void)answer;
	if (session_over(s))
		return;
	flows_up(s);
	stage_done(s);
}

static int flow_up(struct session *s, unsigned i, int fd, struct err *e)
{
	unsigned lcore = lcore_pick(affinity_node(&s->vmm->map, i, s->nflows));
	int node = (int)lcore_node(lcore);
	struct link *link;
	int rc;

	rc = link_tcp_open(&link, fd, true, node, e);
	if (rc < 0)
		return rc;
	return session_flow_begin(s, i, link, lcore, e);
}

static void on_flow_dialled(void *arg, int fd, struct tls *tls, const struct err *why)
{
	struct session *s = arg;
	unsigned i = s->flows_up;
	struct err e;

	(void)tls; /* a flow has none: its frames are sealed */
	s->flow_dial[i] = NULL;
	if (fd < 0) {
		reconnect_or_fail(s, why);
		return;
	}
	if (flow_up(s, i, fd, &e) < 0) {
		session_fail(s, &e);
		return;
	}
	if (s->flows_up < s->nflows)
		source_flows(s);
	else
		peer_ask(s, source_flows_tell(s, json_object()), on_flows);
}

/* One after the other: a handful of connections, and clear whose error it is. */
void source_flows(struct session *s)
{
	struct preamble p = {.kind = PREAMBLE_FLOW, .flow = s->flows_up};
	unsigned i = s->flows_up;
	struct err e;

	s->nflows = s->opt.flows;
	memcpy(p.token, s->token, sizeof(p.token));
	atomic_store_explicit(
		&s->send.bytes_per_s, s->opt.bytes_per_s / s->nflows, memory_order_relaxed);
	if (s->nic.port != NULL) {
		source_flows_nic(s);
		return;
	}
	if (s->rdma.on) {
		source_flows_rdma(s);
		return;
	}
	s->flow_dial[i] =
		dial_new(s->host->base, s->opt.to, &p, DIAL_DEADLINE_MS, on_flow_dialled, s, &e);
	if (s->flow_dial[i] == NULL)
		session_fail(s, &e);
}
