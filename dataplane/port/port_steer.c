// SPDX-License-Identifier: BSD-3-Clause
// Steering by the device: a rule of rte_flow sends what comes for a UDP port to the queue of its
// link. Run by control threads. Where the device has no such rules, or no more of them, RSS or
// nothing spreads packets, and port_turn.c hands over what came in elsewhere. UDP ports are chosen
// for RSS in any case: a rule may be refused.

#include "port_impl.h"

#include <rte_byteorder.h>
#include <rte_flow.h>

struct rule {
	struct rte_flow_attr attr;
	struct rte_flow_item_udp udp, mask;
	struct rte_flow_action_queue queue;
	struct rte_flow_item item[4];
	struct rte_flow_action action[2];
};

static void rule_init(struct rule *r, bool v6, uint16_t udp_port, uint16_t queue)
{
	*r = (struct rule){.attr = {.ingress = 1}};
	r->udp.hdr.dst_port = rte_cpu_to_be_16(udp_port);
	r->mask.hdr.dst_port = UINT16_MAX;
	r->queue.index = queue;
	r->item[0].type = RTE_FLOW_ITEM_TYPE_ETH;
	r->item[1].type = v6 ? RTE_FLOW_ITEM_TYPE_IPV6 : RTE_FLOW_ITEM_TYPE_IPV4;
	r->item[2] = (struct rte_flow_item){
		.type = RTE_FLOW_ITEM_TYPE_UDP, .spec = &r->udp, .mask = &r->mask};
	r->item[3].type = RTE_FLOW_ITEM_TYPE_END;
	r->action[0] =
		(struct rte_flow_action){.type = RTE_FLOW_ACTION_TYPE_QUEUE, .conf = &r->queue};
	r->action[1].type = RTE_FLOW_ACTION_TYPE_END;
}

void port_steer_probe(struct port *p)
{
	struct rte_flow_error why;
	struct rule r;

	rule_init(&r, !p->own.has4, PORT_UDP_FIRST, (uint16_t)(p->nqueues - 1));
	p->has_flow =
		p->nqueues > 1 && rte_flow_validate(p->id, &r.attr, r.item, r.action, &why) == 0;
	if (p->has_flow)
		p->info.steering = "rte_flow";
}

void port_steer(struct port *p, struct port_slot *s, uint16_t udp_port, bool v6)
{
	struct rte_flow_error why = {0};
	struct rule r;

	s->rule = NULL;
	if (!p->has_flow)
		return;
	rule_init(&r, v6, udp_port, atomic_load_explicit(&s->queue, memory_order_relaxed));
	s->rule = rte_flow_create(p->id, &r.attr, r.item, r.action, &why);
	if (s->rule != NULL || p->refused)
		return;
	p->refused = true;
	port_note(p,
		"the device refused a rule for IPv%u (%.60s): packets that come in on "
		"another queue are handed over between cores",
		v6 ? 6 : 4, why.message != NULL ? why.message : "without a reason");
}

void port_unsteer(struct port *p, struct port_slot *s)
{
	struct rte_flow_error why;

	if (s->rule != NULL)
		(void)rte_flow_destroy(p->id, s->rule, &why);
	s->rule = NULL;
}
