// SPDX-License-Identifier: BSD-3-Clause
// Flows over the rdma link, on both sides. Run by the control loop.
//
// The target says in its hello where its daemon listens for RDMA connections. In preflight both
// agree on the version. In stage flows the source makes a connection for each flow, which bears the
// session's token and the flow's number; the target gives each to a core as it is up, and answers
// when it has all. A connection without a token that somebody waits for is refused.

#include "session_impl.h"

#include "affinity.h"
#include "clock.h"
#include "lcore.h"
#include "rdma.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DIAL_DEADLINE_NS (12 * NS_PER_S)

/* How pages go. */
static const char *way(const struct session *s)
{
	if (s->seal != NULL)
		return "sealed, through slots";
	if (s->rdma.turns.most > 0)
		return "raw pages directly where memory is registered, window by window";
	return s->rdma.direct ? "raw pages directly where memory is registered" : "through slots";
}

int flows_rdma_removed_error(const struct session *s, struct err *e)
{
	return err_set(e, ENODEV, "rdma: device %s was removed; look in the kernel's log",
		s->rdma.info.device);
}

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
	r->direct = s->seal == NULL && r->info.trusted &&
		    json_is_true(json_object_get(there, "trusted"));
	watch_text(s, LOG_INFO, "link rdma: device %s, %s to %s port %u, %s", r->info.device,
		r->info.address, r->address, r->port, way(s));
	if (link_rdma_locked_check("", s->opt.flows, 0, e) < 0)
		return -e->errnum;
	return link_rdma_domain_new(&r->domain, s->host->rdma, e);
}

void flows_rdma_describe(const struct session *s, json_t *msg)
{
	if (s->rdma.on)
		json_object_set_new(msg, "rdma",
			json_pack("{s:i, s:b, s:b}", "version", (int)LINK_RDMA_VERSION, "direct",
				s->rdma.direct, "windows", s->rdma.direct));
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
	s->rdma.direct = json_is_true(json_object_get(json_object_get(msg, "rdma"), "direct"));
	if (s->rdma.direct && (s->seal != NULL || !s->rdma.info.trusted))
		return err_set(e, EACCES,
			"the source wants to write this guest's memory by itself, and the target "
			"does not trust the fabric: give rdma-fabric on both hosts the same value");
	s->rdma.can_turn = json_is_true(json_object_get(json_object_get(msg, "rdma"), "windows"));
	if (flows_rdma_may_lock(s, e) < 0)
		return -e->errnum;
	return link_rdma_domain_new(&s->rdma.domain, s->host->rdma, e);
}

/* Cores near the device: it reads and writes the slots. */
static int flow_up(struct session *s, unsigned i, struct link *link, struct err *e)
{
	if (s->rdma.direct)
		link_rdma_direct(link, s->source ? s->rdma.keys : NULL);
	if (s->rdma.direct && s->source)
		link_rdma_windows(link, s->rdma.windows);
	if (s->rdma.pool != NULL)
		link_rdma_by_turns(link, s->rdma.pool, i);
	if (s->source)
		link_rdma_read(link, s->rdma.memory);
	if (s->fig.reconnects > 0)
		link_rdma_careful(link);
	s->rdma.info.mtu = link_rdma_mtu(link);
	return session_flow_begin(s, i, link, lcore_pick(s->rdma.info.node), e);
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
	peer_ask(s, source_flows_tell(s, json_object()), on_answer);
}

void source_flows_rdma(struct session *s)
{
	struct err e;

	s->rdma.all_up = source_up;
	if (s->host->rdma == NULL) {
		flows_rdma_removed_error(s, &e);
		session_fail(s, &e);
		return;
	}
	for (unsigned i = 0; i < s->nflows; i++) {
		struct rdma_lane *lane = lane_of(s, i);

		if (link_rdma_dial(s->rdma.domain, &lane->end, s->rdma.address, s->rdma.port,
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
	*w = (struct link_rdma_welcome){
		.domain = f.found->rdma.domain, .up = on_up, .arg = lane, .end = &lane->end};
	return true;
}

/* While pages are copied flows tell of it; after that nothing here needs the device. */
static void fail_idle(void *arg, struct session *s)
{
	struct err e;

	(void)arg;
	if (!s->rdma.on || s->state >= SESSION_COPYING)
		return;
	flows_rdma_removed_error(s, &e);
	session_fail(s, &e);
}

void flows_rdma_removed(void *arg)
{
	session_each(fail_idle, arg);
}

void flows_rdma_cancel(struct session *s)
{
	for (unsigned i = 0; i < s->nflows; i++) {
		link_rdma_cancel(s->rdma.lane[i].end);
		s->rdma.lane[i].end = NULL;
	}
}

void flows_rdma_gone(struct session *s)
{
	if (s->source && s->rdma.memory != NULL)
		link_rdma_memory_figures(s->rdma.memory, &s->rdma.lent);
	link_rdma_memory_free(s->rdma.memory);
	s->rdma.memory = NULL;
	link_rdma_domain_free(s->rdma.domain);
	s->rdma.domain = NULL;
	flows_rdma_forget_keys(s);
}

json_t *flows_rdma_tell_end(const struct session *s)
{
	const struct link_rdma_registered *f = &s->rdma.figures;

	if (s->rdma.turns.most > 0)
		return json_pack("{s:I, s:I}", "rdma_register_ns", (json_int_t)f->register_ns,
			"rdma_deregister_ns", (json_int_t)f->deregister_ns);
	return f->bytes == 0
		       ? NULL
		       : json_pack("{s:I}", "rdma_deregister_ns", (json_int_t)f->deregister_ns);
}

int flows_rdma_take_end(struct session *s, json_t *msg, struct err *e)
{
	struct link_rdma_registered *r = &s->rdma.figures;

	if (s->rdma.pool != NULL &&
		!peer_get_u64(msg, "rdma_register_ns", INT64_MAX, &r->register_ns, e))
		return -EPROTO;
	if ((r->bytes != 0 || s->rdma.pool != NULL) &&
		!peer_get_u64(msg, "rdma_deregister_ns", INT64_MAX, &r->deregister_ns, e))
		return -EPROTO;
	return 0;
}

json_t *flows_rdma_report(const struct session *s)
{
	const struct link_rdma_registered *f = &s->rdma.figures;
	const struct session_turns *t = &s->rdma.turns;
	json_t *r = rdma_describe(&s->rdma.info);

	json_object_set_new(r, "way", json_string(way(s)));
	flows_rdma_tell_lent(s, r);
	json_object_set_new(r, "registered_bytes", json_integer((json_int_t)f->bytes));
	json_object_set_new(r, "register_ms", json_real((double)f->register_ns / NS_PER_MS));
	json_object_set_new(r, "deregister_ms", json_real((double)f->deregister_ns / NS_PER_MS));
	if (t->most > 0)
		json_object_update_new(r,
			json_pack("{s:I, s:I, s:I, s:I, s:I}", "window_bytes",
				(json_int_t)t->window_bytes, "windows_most", (json_int_t)t->most,
				"windows_asked", (json_int_t)t->asked, "windows_dropped",
				(json_int_t)t->dropped, "windows_refused", (json_int_t)t->refused));
	return r;
}
