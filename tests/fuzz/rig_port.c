// SPDX-License-Identifier: BSD-3-Clause
// A port for session_rig.h that no device is behind: it takes part in agreeing on flows, and holds
// what it is told of them against what port.h and link_nic.h promise. Run by libFuzzer's one
// thread.

#include "session_rig.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

struct port {
	struct port_info info;
};

#define WRAP(type, name, ...)                                                                      \
	type __wrap_##name(__VA_ARGS__);                                                           \
	type __wrap_##name(__VA_ARGS__)

static struct port made_up = {.info = {.mtu = 9000, .link_up = true}};
static unsigned held, taken;
unsigned rig_flows;

void rig_nic(struct session *s)
{
	struct offer_choice *o = &s->nic.offer;

	held++;
	s->nic.port = o->port = &made_up;
	strcpy(o->name, "p0");
	strcpy(o->there, "p1");
	strcpy(o->address, "192.0.2.1");
	strcpy(o->reached, "192.0.2.2");
	o->mtu = 1500;
	s->nflows = s->opt.flows = 1;
	s->peer_timeout_ns = UINT64_MAX / 4;
}

void rig_lanes(json_t *msg, unsigned n)
{
	char key[2 * PORT_RSS_LEAST + 1];
	json_t *lanes = json_array();

	memset(key, '6', sizeof(key) - 1);
	key[sizeof(key) - 1] = '\0';
	for (unsigned i = 0; i < n; i++)
		json_array_append_new(lanes, json_pack("{s:i, s:i, s:s}", "udp_port", 49152,
						     "queue", 1, "token", "0123456789abcdef"));
	json_object_set_new(msg, "lanes", lanes);
	json_object_set_new(msg, "address", json_string("192.0.2.2"));
	json_object_set_new(msg, "spread", json_pack("{s:s, s:s}", "key", key, "queues", "0123"));
}

WRAP(int, port_hold, struct port *p)
{
	(void)p;
	held++;
	return 0;
}

WRAP(void, port_release, struct port *p)
{
	(void)p;
	if (held-- == 0 || taken != 0)
		abort();
}

WRAP(unsigned, port_pick_queue, const struct port *p, int node)
{
	(void)p;
	(void)node;
	return 0;
}

WRAP(unsigned, port_queue_lcore, const struct port *p, unsigned queue)
{
	(void)p;
	(void)queue;
	return 0;
}

WRAP(uint16_t, port_udp_take, struct port *p, unsigned queue, const struct port_peer *peer)
{
	const struct port_rss *r = peer != NULL ? peer->rss : NULL;

	(void)p;
	(void)queue;
	if (peer != NULL && (peer->queue >= PORT_QUEUES || peer->address.ss_family == AF_UNSPEC))
		abort();
	if (r != NULL && (r->entries == 0 || r->entries > PORT_RETA ||
				 r->key_bytes < PORT_RSS_LEAST || r->key_bytes > PORT_RSS_KEY))
		abort();
	taken++;
	return 49152;
}

WRAP(void, port_udp_give, struct port *p, uint16_t udp_port)
{
	(void)p;
	if (udp_port != 49152 || taken-- == 0)
		abort();
}

WRAP(const struct port_rss *, port_rss, const struct port *p)
{
	(void)p;
	return NULL;
}

WRAP(int, link_nic_open, struct link **l, const struct link_nic_config *c, struct err *e)
{
	const struct sockaddr_in *s4 = (const void *)&c->peer;

	*l = NULL;
	if (c->port != &made_up || c->udp_port != 49152 || c->mtu_most < PORT_MTU_LEAST ||
		c->mtu_most > PORT_MTU_MOST || s4->sin_port == 0 ||
		(c->peer.ss_family != AF_INET && c->peer.ss_family != AF_INET6))
		abort();
	rig_flows++;
	return err_set(e, ECANCELED, "as far as this goes without cores");
}

WRAP(void, port_info, struct port *p, struct port_info *i)
{
	*i = p->info;
}
