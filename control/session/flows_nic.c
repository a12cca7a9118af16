// SPDX-License-Identifier: BSD-3-Clause
// Flows over the nic link, on both sides: which port, and what each side tells the other of its
// queues over the control connection. Run by the control loop.
//
// In stage preflight both hold the port that the source picked. In stage flows the source tells an
// address, how its device spreads what comes, and for each flow a UDP port, its queue and the token
// that it wants to see; the target chooses UDP ports that suit the devices of both, opens its
// links and answers with its own; then the source opens its. A port is let go when all flows are.

#include "session_impl.h"

#include "affinity.h"
#include "clock.h"
#include "lcore.h"
#include "link_nic.h"
#include "packet.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* What a target that says nothing at the end of a pass has not answered goes into the next one. */
#define BARRIER_NS NS_PER_S

static int hold(struct session *s, struct port *port, struct err *e)
{
	int rc = port_hold(port);

	if (rc < 0)
		return err_sys(e, -rc, "cannot have the cores poll port %s", s->nic.offer.name);
	s->nic.port = port;
	port_info(port, &s->nic.info);
	ports_about(&s->nic.info, s->nic.about);
	return 0;
}

static void say_choice(struct session *s, bool automatic)
{
	watch_text(s, LOG_INFO, "link nic%s: port %s (%s), %s to %s on port %s",
		automatic ? ", chosen by auto" : "", s->nic.offer.name, s->nic.about,
		s->nic.offer.address, s->nic.offer.reached, s->nic.offer.there);
}

static int check_copy(struct session *s, struct err *e)
{
	struct port_info i;

	port_info(s->nic.offer.port, &i);
	if (s->seal == NULL || !i.must_zero_copy)
		return 0;
	return err_set(e, ENOTSUP,
		"port %s is to send pages without a copy, and sealed ones can't be: set its "
		"zero-copy "
		"to auto, or give --seal none on both hosts",
		s->nic.offer.name);
}

int flows_nic_choose(struct session *s, struct err *e)
{
	bool automatic = strcmp(s->opt.link, "auto") == 0;
	int rc;

	if (strcmp(s->opt.link, "tcp") == 0)
		return 0;
	if (strcmp(s->opt.link, "rdma") == 0)
		return flows_rdma_choose(s, e);
	rc = offer_choose(&s->nic.offer, s->host->ports, json_object_get(s->peer, "ports"), e);
	if (rc == 0)
		rc = check_copy(s, e);
	if (rc == 0)
		rc = peer_can(s, "links", "nic", e);
	if (rc < 0 && !automatic)
		return rc;
	strcpy(s->opt.link, rc == 0 ? "nic" : "tcp");
	if (rc < 0) {
		watch_text(s, LOG_INFO, "link tcp, chosen by auto: %s", e->text);
		return 0;
	}
	rc = hold(s, s->nic.offer.port, e);
	if (rc == 0)
		say_choice(s, automatic);
	return rc;
}

void flows_nic_describe(const struct session *s, json_t *msg)
{
	if (s->nic.port == NULL)
		return;
	json_object_set_new(msg, "nic",
		json_pack("{s:i, s:s, s:s, s:i, s:i, s:I, s:I}", "version", PACKET_VERSION, "port",
			s->nic.offer.there, "address", s->nic.offer.reached, "mtu",
			(int)s->nic.offer.mtu, "frames", (int)LINK_NIC_FRAMES, "ring_bytes",
			(json_int_t)LINK_NIC_RING_BYTES, "silence_ms",
			(json_int_t)(s->peer_timeout_ns / NS_PER_MS)));
}

int flows_nic_accept(struct session *s, json_t *msg, struct err *e)
{
	json_t *nic = json_object_get(msg, "nic");
	struct offer_choice *o = &s->nic.offer;
	uint64_t version, frames, ring, mtu, silence_ms;
	struct ports_one *one = NULL;
	struct port_info info;

	if (!peer_get_text(nic, "port", o->name, sizeof(o->name), e) ||
		!peer_get_text(nic, "address", o->address, sizeof(o->address), e) ||
		!peer_get_u64(nic, "version", UINT32_MAX, &version, e) ||
		!peer_get_u64(nic, "frames", UINT32_MAX, &frames, e) ||
		!peer_get_u64(nic, "ring_bytes", UINT32_MAX, &ring, e) ||
		!peer_get_u64(nic, "silence_ms", SESSION_SILENCE_MS_MOST, &silence_ms, e) ||
		!peer_get_u64(nic, "mtu", PORT_MTU_MOST, &mtu, e))
		return -EPROTO;
	for (unsigned i = 0; i < s->host->ports->n; i++)
		if (strcmp(s->host->ports->one[i].name, o->name) == 0)
			one = &s->host->ports->one[i];
	if (one == NULL)
		return err_set(e, ENODEV, "the target's daemon has no port %.60s", o->name);
	port_info(one->port, &info);
	if (version != PACKET_VERSION || frames != LINK_NIC_FRAMES || ring != LINK_NIC_RING_BYTES ||
		mtu < PORT_MTU_LEAST || mtu > info.mtu)
		return err_set(e, EPROTO,
			"the nic link of the source speaks version %" PRIu64 " with %" PRIu64
			" frames and MTU %" PRIu64 ", the target's %u with %u and %u; install the "
			"same version on both hosts",
			version, frames, mtu, PACKET_VERSION, LINK_NIC_FRAMES, info.mtu);
	if (silence_ms < SESSION_SILENCE_MS_LEAST)
		return err_set(e, EPROTO,
			"the source's daemon has too little patience: %" PRIu64 " ms", silence_ms);
	s->peer_timeout_ns = silence_ms * NS_PER_MS;
	o->mtu = (unsigned)mtu;
	return hold(s, one->port, e);
}

/* Where the datagrams of flow i will come from, as far as the other daemon has said so already. */
static bool peer_of(struct session *s, struct port_peer *peer, json_t *msg, unsigned i)
{
	json_t *lane = json_array_get(json_object_get(msg, "lanes"), i);
	char address[PORT_ADDRESS_TEXT];
	uint64_t udp_port;

	if (s->source)
		return port_address_parse(&peer->address, s->nic.offer.reached, 0) == 0;
	return peer_get_text(msg, "address", address, sizeof(address), NULL) &&
	       peer_get_u64(lane, "udp_port", UINT16_MAX, &udp_port, NULL) &&
	       port_address_parse(&peer->address, address, (uint16_t)udp_port) == 0;
}

/* The queue there on which the answers of flow i are wanted; 0 where that is not told. */
static bool peer_queue(struct port_peer *peer, json_t *msg, unsigned i, struct err *e)
{
	json_t *lane = json_array_get(json_object_get(msg, "lanes"), i);
	uint64_t queue = 0;

	if (json_object_get(lane, "queue") != NULL &&
		!peer_get_u64(lane, "queue", PORT_QUEUES - 1, &queue, e))
		return false;
	peer->queue = (unsigned)queue;
	return true;
}

/* A queue, a UDP port and a token for each flow. */
static int take_lanes(struct session *s, json_t *msg, struct err *e)
{
	json_t *told = json_object_get(msg, "spread");
	struct port_rss rss;

	if (told != NULL && offer_read_spread(&rss, told, e) < 0)
		return -EPROTO;
	for (unsigned i = 0; i < s->nflows; i++) {
		struct nic_lane *l = &s->nic.lane[i];
		struct port_peer peer = {.rss = told != NULL ? &rss : NULL};

		if (!peer_queue(&peer, msg, i, e))
			return -EPROTO;
		l->queue = port_pick_queue(s->nic.port, affinity_node(&s->vmm->map, i, s->nflows));
		l->udp_port = port_udp_take(
			s->nic.port, l->queue, peer_of(s, &peer, msg, i) ? &peer : NULL);
		if (l->udp_port == 0)
			return err_set(e, ENOSPC, "port %s has no UDP port left for flow %u",
				s->nic.offer.name, i);
		l->taken = true;
		if (getrandom(&l->token, sizeof(l->token), 0) != (ssize_t)sizeof(l->token))
			return err_sys(e, errno, "cannot get random bytes for a flow's token");
	}
	return 0;
}

/* How datagrams from the target will be spread here; NULL: the device does not tell. */
static const struct port_rss *spread(const struct session *s)
{
	const struct port_rss *r = s->source ? port_rss(s->nic.port) : NULL;
	bool v6 = strchr(s->nic.offer.address, ':') != NULL;

	return r != NULL && (v6 ? r->udp6 : r->udp4) ? r : NULL;
}

static json_t *tell_lanes(struct session *s)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < s->nflows; i++) {
		char token[17];

		snprintf(token, sizeof(token), "%016" PRIx64, s->nic.lane[i].token);
		json_array_append_new(
			list, json_pack("{s:i, s:i, s:s}", "udp_port", (int)s->nic.lane[i].udp_port,
				      "queue", (int)s->nic.lane[i].queue, "token", token));
	}
	return json_pack("{s:s, s:o, s:o*}", "address", s->nic.offer.address, "lanes", list,
		"spread", offer_make_spread(spread(s)));
}

static int open_flow(
	struct session *s, unsigned i, const char *address, json_t *lane, struct err *e)
{
	struct nic_lane *mine = &s->nic.lane[i];
	struct link_nic_config c = {
		.port = s->nic.port,
		.queue = mine->queue,
		.source = s->source,
		.udp_port = mine->udp_port,
		.token_in = mine->token,
		.mtu_most = s->nic.offer.mtu,
		.windows = s->nic.windows,
		.lane = i,
		.dead_ns = s->peer_timeout_ns,
		.resolve_ns =
			s->peer_timeout_ns / 2, /* who can't be found is not said to be dead */
		.barrier_ns = BARRIER_NS,
	};
	unsigned lcore = port_queue_lcore(s->nic.port, mine->queue);
	char token[17];
	int rc;
	struct link *link;
	uint64_t udp_port;

	if (!peer_get_u64(lane, "udp_port", UINT16_MAX, &udp_port, e) ||
		!peer_get_text(lane, "token", token, sizeof(token), e))
		return -EPROTO;
	c.token_out = strtoull(token, NULL, 16);
	if (strspn(token, "0123456789abcdef") != 16 || udp_port == 0 ||
		port_address_parse(&c.peer, address, (uint16_t)udp_port) < 0)
		return err_set(e, EPROTO,
			"the other daemon's word on flow %u is no address, UDP port and token", i);
	rc = link_nic_open(&link, &c, e);
	if (rc < 0)
		return rc;
	mine->taken = false; /* the link gives it back */
	return session_flow_begin(s, i, link, lcore, e);
}

static int open_flows(struct session *s, json_t *msg, struct err *e)
{
	json_t *lanes = json_object_get(msg, "lanes");
	char address[PORT_ADDRESS_TEXT];

	if (!peer_get_text(msg, "address", address, sizeof(address), e))
		return -EPROTO;
	if (json_array_size(lanes) != s->nflows)
		return err_set(e, EPROTO, "the other daemon told of %zu flows and not %u",
			json_array_size(lanes), s->nflows);
	for (unsigned i = 0; i < s->nflows; i++) {
		int rc = open_flow(s, i, address, json_array_get(lanes, i), e);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static void on_lanes(struct session *s, json_t *answer)
{
	struct err e;

	if (session_over(s))
		return;
	if (open_flows(s, answer, &e) < 0) {
		session_fail(s, &e);
		return;
	}
	flows_up(s);
	stage_done(s);
}

void source_flows_nic(struct session *s)
{
	struct err e;

	if (flows_nic_map(s, &e) < 0 || take_lanes(s, NULL, &e) < 0)
		session_fail(s, &e);
	else
		peer_ask(s, source_flows_tell(s, tell_lanes(s)), on_lanes);
}

void target_flows_nic(struct session *s, json_t *msg)
{
	struct err e;

	if (take_lanes(s, msg, &e) < 0 || open_flows(s, msg, &e) < 0) {
		session_fail(s, &e);
		return;
	}
	flows_up(s);
	peer_answer(s, tell_lanes(s));
}

void flows_nic_sum(struct session *s)
{
	struct link_nic_info sum = s->nic.links_gone, one;
	bool any = false;

	if (s->nic.port == NULL)
		return;
	sum.mtu = 0;
	sum.rtt_ns = 0;
	for (unsigned i = 0; i < s->nflows; i++) {
		if (s->flow[i] == NULL)
			continue;
		any = true;
		link_nic_info(s->flow[i]->link, &one);
		sum.mtu = one.mtu > sum.mtu ? one.mtu : sum.mtu;
		sum.rtt_ns = one.rtt_ns > sum.rtt_ns ? one.rtt_ns : sum.rtt_ns;
		sum.packets_out += one.packets_out;
		sum.packets_in += one.packets_in;
		sum.lost += one.lost;
		sum.spurious += one.spurious;
		sum.timeouts += one.timeouts;
		sum.bad += one.bad;
		sum.zero_copy |= one.zero_copy;
	}
	if (any)
		s->nic.links = sum;
}

void flows_nic_again(struct session *s)
{
	s->nic.links_gone = s->nic.links;
	for (unsigned i = 0; i < s->nflows; i++) {
		if (s->nic.port != NULL && s->nic.lane[i].taken)
			port_udp_give(s->nic.port, s->nic.lane[i].udp_port);
		s->nic.lane[i].taken = false;
	}
}

void flows_nic_gone(struct session *s)
{
	if (s->nic.port == NULL)
		return;
	flows_nic_again(s);
	flows_nic_unmap(s);
	port_release(s->nic.port);
	s->nic.port = NULL;
}
