// SPDX-License-Identifier: BSD-3-Clause
// What the target does for each request of the source, but for the commit (handover.c). Requests
// come in the order of the stage table; each is answered, or the session fails and says why.

#include "session_impl.h"

#include "affinity.h"
#include "clock.h"
#include "describe.h"
#include "godwit.h"
#include "lcore.h"
#include "rdma.h"
#include "reserve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VMM_DEADLINE_MS 60000 /* a busy host's KVM takes seconds to switch its log on */

static void on_gone(void *arg, const struct err *why)
{
	struct session *s = arg;

	/* While the guest is being taken over, the answer to that request decides. */
	if (!session_over(s) && s->state != SESSION_COMMITTING)
		session_fail(s, why);
}

/* Memory that was allocated ahead is mapped ahead. */
static int map_ahead(struct session *s, struct err *e)
{
	for (unsigned i = 0; i < s->vmm->map.n; i++)
		if (recv_job_can_keep(&s->vmm->map.r[i]))
			return populate_start(&s->populating, &s->vmm->map, POPULATE_MAP, e);
	return 0;
}

/* The regions are mapped and their nodes known; with --reserve populate there is memory for all. */
static int look_at_memory(struct session *s, struct err *e)
{
	struct region_map *map = &s->vmm->map;

	for (unsigned i = 0; i < map->n; i++)
		if (region_mmap(&map->r[i], true, e) < 0)
			return -e->errnum;
	reserve_find_nodes(map);
	/* Not in the time that a migration takes: that of a host that waits. */
	if (!s->populate)
		return map_ahead(s, e);
	if (session_reserve(map, map->bytes, e) < 0)
		return -e->errnum;
	s->reserved_bytes = map->bytes;
	return 0;
}

static void on_vmm(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;
	struct err e;

	if (session_over(s))
		return;
	if (a->status < 0) {
		session_fail(s, &a->why);
	} else if (s->vmm->state != GODWIT_INCOMING && s->vmm->state != GODWIT_LOADED) {
		session_failf(s, EBUSY,
			"the VMM at %s does not wait for a guest; start it as incoming",
			s->where.socket);
	} else if (look_at_memory(s, &e) < 0) {
		session_fail(s, &e);
	} else {
		watch_know_vmm(s);
		s->vmm_ready = true;
		log_info(s->name, "waits for its source");
		watch_state(s);
	}
}

int session_receive(struct session_host *h, const struct receive_options *o, struct session **out,
	struct err *e)
{
	struct session *s;

	if (session_check_helper(h, &o->vmm, e) < 0)
		return -e->errnum;
	if (o->from[0] != '\0' && h->tls == NULL)
		return err_set(e, EINVAL,
			"--from names a certificate, and this host is `insecure`: nobody proves "
			"who he is");
	session_give_way(o->name);
	s = session_new(h, o->name, &o->vmm, false, e);
	if (s == NULL)
		return -e->errnum;
	if (vmm_open(&s->vmm, h->base, &s->where, VMM_DEADLINE_MS, on_vmm, s, e) < 0) {
		s->vmm = NULL;
		session_fail(s, e);
		return -e->errnum;
	}
	s->vmm->gone = on_gone;
	s->vmm->gone_arg = s;
	s->populate = o->populate;
	s->seal_wish = o->seal;
	memcpy(s->from, o->from, sizeof(s->from));
	*out = s;
	return 0;
}

void target_hello(struct session *s, struct conn *c, json_t *msg)
{
	s->conn = c;
	s->peer = json_incref(msg);
	s->stage = stage_find("hello");
	s->stage_ns = clock_ns();
	s->reply_seq = (uint32_t)json_integer_value(json_object_get(msg, "seq"));
	if (conn_tls(c) != NULL)
		snprintf(s->reconnect.peer, sizeof(s->reconnect.peer), "%s", tls_peer(conn_tls(c)));
	conn_own(c, &peer_ops, s);
	session_set_state(s, SESSION_PREPARING);
	peer_answer(s,
		json_pack("{s:i, s:s, s:o, s:s, s:o, s:o}", "protocol", SESSION_PROTOCOL, "godwit",
			GODWIT_VERSION, "can", peer_tell(s), "hypervisor", s->vmm->hello.hypervisor,
			"ports", offer_make(s->host->ports), "rdma", rdma_status(s->host->rdma)));
}

/* For auto the source tells which codecs it may choose. */
static int agree_codecs(struct session *s, const char *codec, const json_t *msg, struct err *e)
{
	const json_t *names = json_object_get(msg, "codecs");
	size_t n = json_array_size(names);
	int rc = 0;

	if (strcmp(codec, codec_auto.name) != 0)
		return peer_can(s, "codecs", codec, e);
	if (n == 0 || n > UINT8_MAX)
		return err_set(e, EPROTO, "the source's daemon does not say what auto may choose");
	for (size_t i = 0; i < n && rc == 0; i++) {
		const char *name = json_string_value(json_array_get(names, i));

		rc = peer_can(s, "codecs", name != NULL ? name : "without a name", e);
	}
	return rc;
}

void target_preflight(struct session *s, json_t *msg)
{
	char codec[32], link[16], seal[16];
	uint64_t flows, populated, reconnect_ms;
	struct err e;

	if (!peer_get_text(msg, "codec", codec, sizeof(codec), &e) ||
		!peer_get_text(msg, "link", link, sizeof(link), &e) ||
		!peer_get_text(msg, "seal", seal, sizeof(seal), &e) ||
		session_seal_agree(s, seal, &e) < 0 || peer_can(s, "seals", seal, &e) < 0 ||
		!peer_get_u64(msg, "flows", SESSION_FLOWS, &flows, &e) ||
		!peer_get_u64(msg, "populated_bytes", REGION_TOTAL_MAX, &populated, &e) ||
		!peer_get_u64(
			msg, "reconnect_ms", 2 * SESSION_SILENCE_MS_MOST, &reconnect_ms, &e) ||
		describe_compare_machine(json_object_get(msg, "machine"), s->vmm->about, &e) < 0 ||
		describe_compare(json_object_get(msg, "regions"), &s->vmm->map, &e) < 0 ||
		agree_codecs(s, codec, msg, &e) < 0) {
		session_fail(s, &e);
		return;
	}
	if (flows == 0) {
		session_failf(s, EPROTO, "the source's daemon asks for no flow");
		return;
	}
	if (!s->populate) {
		/* The VMM may have bound its memory since. */
		reserve_find_nodes(&s->vmm->map);
		if (session_reserve(&s->vmm->map, populated, &e) < 0) {
			session_fail(s, &e);
			return;
		}
		s->reserved_bytes = populated;
	}
	s->tells_busy = json_is_true(json_object_get(msg, "busy"));
	strcpy(s->opt.link, link);
	s->nflows = (unsigned)flows;
	if (flows_accept(s, link, msg, &e) < 0 || peer_can(s, "links", link, &e) < 0) {
		session_fail(s, &e);
		return;
	}
	s->fig.populated_bytes = populated;
	s->reconnect.wait_ns = reconnect_ms * NS_PER_MS;
	peer_answer(s, NULL);
}

static void all_up(struct session *s)
{
	flows_up(s);
	peer_answer(s, NULL);
}

void target_flow(struct session *s, int fd, uint32_t i)
{
	struct link *link;
	unsigned lcore;
	struct err e;
	int rc;

	if (i >= s->nflows || s->flow[i] != NULL || s->nic.port != NULL || s->rdma.on) {
		close(fd);
		log_warn(s->name,
			"a connection for flow %u was refused: there is no such flow, or "
			"it is up already",
			i);
		return;
	}
	lcore = lcore_pick(affinity_node(&s->vmm->map, i, s->nflows));
	rc = link_tcp_open(&link, fd, false, (int)lcore_node(lcore), &e);
	if (rc == 0)
		rc = session_flow_begin(s, i, link, lcore, &e);
	if (rc < 0)
		session_fail(s, &e);
	else if (s->flows_up == s->nflows && s->stage == stage_find("flows"))
		all_up(s);
}

void target_flows(struct session *s, json_t *msg)
{
	struct err e;

	if (target_book_again(s, msg, &e) < 0) {
		session_fail(s, &e);
		return;
	}
	if (s->nic.port != NULL)
		target_flows_nic(s, msg);
	else if (s->flows_up == s->nflows)
		all_up(s);
}

void target_save(struct session *s, json_t *msg)
{
	uint64_t bytes, crc;
	struct err e;

	if (!peer_get_u64(msg, "bytes", SPOOL_BYTES_MAX, &bytes, &e) ||
		!peer_get_u64(msg, "crc", UINT32_MAX, &crc, &e) ||
		spool_new(&s->spool, bytes, (uint32_t)crc, &e) < 0) {
		session_fail(s, &e);
		return;
	}
	s->fig.state_bytes = bytes;
}

/* What is no device state is the balloon's bitmap: from when flows are up until the state is
 * loaded. */
static void target_carry(struct session *s, const uint8_t *data, size_t bytes)
{
	uint64_t nchunks = s->vmm != NULL ? s->vmm->map.nchunks : 0;
	struct err e;

	if (!s->have_recv || s->stage >= stage_find("load") || s->vmm->in == NULL) {
		session_failf(s, EPROTO, "the source's daemon sent data that nobody asked for");
		return;
	}
	if (carry_take(data, bytes, s->vmm->in, nchunks, &e) < 0)
		session_fail(s, &e);
	s->balloon_end = nchunks;
}

void target_blob(struct session *s, const uint8_t *data, size_t bytes)
{
	struct err e;

	if (s->spool == NULL || spool_full(s->spool)) {
		target_carry(s, data, bytes);
		return;
	}
	if (spool_add(s->spool, data, bytes, &e) < 0 ||
		(spool_full(s->spool) && spool_check(s->spool, &e) < 0)) {
		session_fail(s, &e);
		return;
	}
	if (spool_full(s->spool))
		peer_answer(s, NULL);
}

static void on_digest(void *arg, const struct verify_result *r)
{
	struct session *s = arg;

	if (session_digested(s, r))
		peer_answer(s, json_pack("{s:s, s:I}", "digest", r->digest, "pages",
				       (json_int_t)r->pages));
}

void target_verify(struct session *s, json_t *msg)
{
	struct err e;

	(void)msg;
	if (verify_start(&s->verify, s->host->base, &s->vmm->map, NULL, on_digest, s, &e) < 0)
		session_fail(s, &e);
}

static void on_loaded(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;

	if (session_over(s))
		return;
	if (a->status < 0) {
		session_fail(s, &a->why);
		return;
	}
	s->loaded = true;
	peer_answer(s, flows_rdma_tell_end(s));
}

/* Law 9: all pages are placed (the source has every barrier's answer), the state is whole. */
void target_load(struct session *s, json_t *msg)
{
	struct err e;

	(void)msg;
	if (s->spool == NULL || !spool_full(s->spool)) {
		session_failf(
			s, EPROTO, "the source asked to load device state that it did not send");
		return;
	}
	/* Now it still runs at the source. */
	if (reserve_check_next(&s->vmm->map, "", &e) < 0) {
		session_fail(s, &e);
		return;
	}
	/* From here on nothing is placed any more, whatever the source sends. */
	s->have_token = false;
	s->leaving = s->loading = true;
	for (unsigned i = 0; i < s->nflows; i++)
		if (s->attached[i])
			flow_detach(s->flow[i]);
	session_tick_every(s, 0);
}

static void on_balloon(void *arg, struct vmm_answer *a)
{
	struct session *s = arg;

	if (!session_over(s) && a->status < 0)
		session_fail(s, &a->why);
}

/* Law 11: nothing is left of what was here before. */
static bool all_spoken_of(struct session *s)
{
	uint64_t stale = recv_job_stale(&s->recv);

	if (stale == 0)
		return true;
	session_failf(s, EPROTO,
		"%llu pages hold what this host's memory held before, and the source has spoken of "
		"none of them; report this as a bug of the source's Godwit",
		(unsigned long long)stale);
	return false;
}

void target_tick(struct session *s)
{
	bool preparing = s->clearing || s->populating != NULL || s->rdma.registering;
	bool often = s->loading || (!preparing && flows_rdma_say_windows(s));
	struct err e;

	session_tick_every(s, often ? 250 : preparing ? 2000 : 4000);
	if (preparing)
		target_prepare_on(s);
	progress_placing(s);
	if (s->loading && session_flows_detached(s)) {
		int rc = flows_rdma_release(s, &e);

		if (rc == 0)
			return;
		s->loading = false;
		if (rc < 0)
			session_fail(s, &e);
		if (rc < 0 || !all_spoken_of(s))
			return;
		/* In order: the VMM has its balloon before its devices. */
		if (s->balloon_end != 0)
			vmm_ask(s->vmm, AGENT_BALLOON, 0, s->balloon_end, -1, on_balloon, s);
		vmm_ask(s->vmm, AGENT_LOAD, s->spool->bytes, 0, s->spool->fd, on_loaded, s);
	}
}

void target_fini(struct session *s)
{
	populate_free(s->populating);
	s->populating = NULL;
	vmm_death_cancel(s->death);
	s->death = NULL;
	if (s->have_recv)
		recv_job_fini(&s->recv);
	s->have_recv = false;
	flows_rdma_gone(s);
}
