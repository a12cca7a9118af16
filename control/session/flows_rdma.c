// SPDX-License-Identifier: BSD-3-Clause
// Flows over the rdma link, on both sides. Run by the control loop.
//
// The target says in its hello where its daemon listens for RDMA connections. In preflight both
// agree on the version. In stage flows the source makes a connection for each flow, which bears the
// session's token and the flow's number; the target gives each to a core as it is up, and answers
// when it has all. A connection without a token that somebody waits for is refused.

#include "session_impl.h"

#include "affinity.h"
#include "lcore.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DIAL_DEADLINE_NS (12 * NS_PER_S)

int flows_rdma_choose(struct session *s, struct err *e)
{
	json_t *there = json_object_get(s->peer, "rdma");
	struct session_rdma *r = &s->rdma;
	uint64_t port;

	if (s->host->rdma == NULL)
		return err_set(e, ENODEV,
			"this daemon has no RDMA device; give it the address of one, see --rdma in "
			"godwitd(8)");
	if (!json_is_object(there))
		return err_set(e, ENODEV,
			"the target's daemon has no RDMA device; give it the address of one, see "
			"--rdma in godwitd(8)");
	if (!peer_get_text(there, "address", r->address, sizeof(r->address), e) ||
		!peer_get_u64(there, "port", UINT16_MAX, &port, e))
		return -EPROTO;
	r->port = (uint16_t)port;
	r->on = true;
	link_rdma_host_info(s->host->rdma, &r->info);
	watch_text(s, LOG_INFO, "link rdma: device %s, %s to %s port %u", r->info.device,
		r->info.address, r->address, r->port);
	return 0;
}

void flows_rdma_describe(const struct session *s, json_t *msg)
{
	if (s->rdma.on)
		json_object_set_new(
			msg, "rdma", json_pack("{s:i}", "version", (int)LINK_RDMA_VERSION));
}

int flows_rdma_accept(struct session *s, json_t *msg, struct err *e)
{
	uint64_t version;

	if (s->host->rdma == NULL)
		return err_set(e, ENODEV, "the target's daemon has no RDMA device");
	if (!peer_get_u64(json_object_get(msg, "rdma"), "version", UINT32_MAX, &version, e))
		return -EPROTO;
	if (version != LINK_RDMA_VERSION)
		return err_set(e, EPROTO,
			"the rdma link of the source speaks version %" PRIu64
			", the target's %u; install the same version on both hosts",
			version, LINK_RDMA_VERSION);
	s->rdma.on = true;
	link_rdma_host_info(s->host->rdma, &s->rdma.info);
	return 0;
}

/* Cores near the device: it reads and writes the slots. */
static int flow_up(struct session *s, unsigned i, struct link *link, struct err *e)
{
	unsigned lcore = lcore_pick(s->rdma.info.node);
	int node = (int)lcore_node(lcore), rc;

	rc = session_seal_link(s, link, i, node, e);
	if (rc < 0)
		return rc;
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

static void on_up(void *arg, struct link *link, const struct err *why)
{
	struct rdma_lane *lane = arg;
	struct session *s = lane->s;
	struct err e;

	if (link == NULL)
		reconnect_or_fail(s, why);
	else if (flow_up(s, lane->flow, link, &e) < 0)
		session_fail(s, &e);
	else if (s->flows_up == s->nflows)
		s->rdma.all_up(s);
}

static struct rdma_lane *lane_of(struct session *s, unsigned i)
{
	struct rdma_lane *lane = &s->rdma.lane[i];

	lane->s = s;
	lane->flow = i;
	return lane;
}

static void on_answer(struct session *s, json_t *answer)
{
	(void)answer;
	if (session_over(s))
		return;
	flows_up(s);
	stage_done(s);
}

static void source_up(struct session *s)
{
	peer_ask(s, json_object(), on_answer);
}

void source_flows_rdma(struct session *s)
{
	struct err e;

	s->rdma.all_up = source_up;
	for (unsigned i = 0; i < s->nflows; i++) {
		struct rdma_lane *lane = lane_of(s, i);

		if (link_rdma_dial(s->host->rdma, &lane->end, s->rdma.address, s->rdma.port,
			    s->token, i, DIAL_DEADLINE_NS, on_up, lane, &e) < 0) {
			reconnect_or_fail(s, &e);
			return;
		}
	}
}

/* Where the source asks only later, target_flows() answers. */
static void target_up(struct session *s)
{
	if (s->stage != stage_find("flows"))
		return;
	flows_up(s);
	peer_answer(s, NULL);
}

struct search {
	const struct link_rdma_ask *ask;
	struct session *found;
};

static void match(void *arg, struct session *s)
{
	struct search *f = arg;

	if (!s->source && s->rdma.on && s->have_token && !session_over(s) &&
		memcmp(s->token, f->ask->token, TOKEN_BYTES) == 0)
		f->found = s;
}

bool flows_rdma_asked(void *arg, const struct link_rdma_ask *ask, struct link_rdma_welcome *w)
{
	struct search f = {.ask = ask};
	struct rdma_lane *lane;

	(void)arg;
	session_each(match, &f);
	if (f.found == NULL || ask->flow >= f.found->nflows || f.found->flow[ask->flow] != NULL ||
		f.found->rdma.lane[ask->flow].end != NULL) {
		log_warn("rdma", "a connection of %s was refused: nobody waits for it", ask->from);
		return false;
	}
	f.found->rdma.all_up = target_up;
	lane = lane_of(f.found, ask->flow);
	*w = (struct link_rdma_welcome){.up = on_up, .arg = lane, .end = &lane->end};
	return true;
}

void flows_rdma_cancel(struct session *s)
{
	for (unsigned i = 0; i < s->nflows; i++) {
		link_rdma_cancel(s->rdma.lane[i].end);
		s->rdma.lane[i].end = NULL;
	}
}
