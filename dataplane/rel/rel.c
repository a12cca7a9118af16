// SPDX-License-Identifier: BSD-3-Clause
// What both ends of a reliable flow share: numbers, signs of life, the goodbye. Run by polling
// cores; pure.
//
// Invariants: a packet number is given out once. After an error nothing is sent; after CLOSED one
// BYE, which nobody waits for.

#include "rel.h"

#include "clock.h"

#include <errno.h>
#include <string.h>

#define BYE_EVERY_NS  (10 * NS_PER_MS)
#define AWAY_LEAST_NS NS_PER_MS

void rel_config_init(struct rel_config *c)
{
	*c = (struct rel_config){
		.frames = 1024,
		.packets = 16384,
		.ring_bytes = 32 << 20,
		.mtu_base = 1280,
		.page_parts = true,
		.target_ns = 500 * NS_PER_US,
		.first_rtt_ns = NS_PER_MS,
		.ack_packets = 32,
		.ack_delay_ns = 100 * NS_PER_US,
		.least_pto_ns = 2 * NS_PER_MS,
		.most_pto_ns = 200 * NS_PER_MS,
		.keepalive_ns = NS_PER_S,
		.dead_ns = 30 * NS_PER_S,
		.bye_ns = 2 * NS_PER_S,
	};
}

void rel_init(struct rel *r, const struct rel_config *cfg, uint64_t now_ns)
{
	memset(r, 0, sizeof(*r));
	r->cfg = *cfg;
	r->number = cfg->first_number;
	r->heard_ns = r->said_ns = r->looked_ns = now_ns;
	r->bye_at_ns = r->bye_until_ns = REL_NEVER;
}

// A turn takes time too, with several flows on a core some hundred microseconds: that is not
// counted, as all time would be. What has gathered while the core was away is worked off in about
// as long.
void rel_look(struct rel *r, uint64_t now_ns)
{
	uint64_t gap = now_ns > r->looked_ns ? now_ns - r->looked_ns : 0;

	r->looked_ns = now_ns;
	if (gap > AWAY_LEAST_NS) {
		r->away_sum_ns += gap;
		r->away_ns = gap;
		r->away_until_ns = now_ns + gap;
	}
	if (gap > r->cfg.keepalive_ns)
		r->heard_ns = rel_min(r->heard_ns + gap, now_ns);
}

uint64_t rel_away(const struct rel *r, uint64_t now_ns)
{
	return now_ns < r->away_until_ns ? r->away_ns : 0;
}

uint16_t rel_away_sum(const struct rel *r)
{
	return (uint16_t)(r->away_sum_ns / PACKET_AWAY_NS);
}

void rel_leave(struct rel *r, uint32_t reason, uint64_t now_ns)
{
	if (r->state != REL_OPEN)
		return;
	r->state = REL_LEAVING;
	r->reason = reason;
	r->bye_at_ns = now_ns;
	r->bye_until_ns = now_ns + r->cfg.bye_ns;
}

int rel_open(const struct rel *r, struct packet *p, const uint8_t *buf, size_t len)
{
	size_t covered;

	return r->cfg.sealed ? packet_read(p, r->cfg.token_in, buf, len, &covered)
			     : packet_open(p, r->cfg.token_in, buf, len);
}

struct packet rel_begin(struct rel *r, uint8_t type, uint64_t now_ns)
{
	struct packet p = {.type = type, .token = r->cfg.token_out, .number = r->number};

	r->number++;
	r->said_ns = now_ns;
	r->stats.packets_out++;
	return p;
}

void rel_on_bye(struct rel *r, const struct packet *p, const uint8_t *buf, uint64_t now_ns)
{
	struct packet_bye b;

	if (packet_get_bye(&b, p, buf) < 0)
		return;
	if (!(p->flags & PACKET_BYE_AGAIN))
		r->bye_at_ns = now_ns;
	if (r->state == REL_OPEN) {
		r->state = REL_LEFT;
		r->reason = b.reason;
		r->bye_until_ns = now_ns + r->cfg.bye_ns;
	} else if (r->state == REL_LEFT && (p->flags & PACKET_BYE_AGAIN)) {
		r->state = REL_CLOSED;
	} else if (r->state == REL_LEAVING && (p->flags & PACKET_BYE_AGAIN)) {
		// One more, so that the peer need not linger; if it is lost, the peer does.
		r->state = REL_CLOSED;
		r->bye_at_ns = now_ns;
	} else if (r->state == REL_LEAVING) {
		r->state = REL_LEFT; // both began
	}
}

bool rel_next_bye(struct rel *r, uint64_t now_ns, struct rel_out *o)
{
	struct packet_bye b = {.reason = r->reason};
	struct packet p;

	if (now_ns < r->bye_at_ns || r->state == REL_OPEN || r->error != 0)
		return false;
	p = rel_begin(r, PACKET_BYE, now_ns);
	p.bytes = PACKET_BYE_BYTES;
	p.flags = r->state == REL_LEAVING ? 0 : PACKET_BYE_AGAIN;
	o->bytes = o->pad_bytes = 0;
	o->copy = false;
	o->hdr_bytes = packet_put_bye(o->hdr, &p, &b);
	r->bye_at_ns = r->state == REL_LEAVING ? now_ns + BYE_EVERY_NS : REL_NEVER;
	return true;
}

void rel_timer(struct rel *r, uint64_t now_ns)
{
	if (r->state == REL_OPEN && r->error == 0 && now_ns - r->heard_ns >= r->cfg.dead_ns)
		r->error = ETIMEDOUT;
	if (r->state != REL_OPEN && now_ns >= r->bye_until_ns)
		r->state = REL_CLOSED;
}

uint64_t rel_deadline(const struct rel *r)
{
	if (r->error != 0)
		return REL_NEVER;
	if (r->state == REL_CLOSED)
		return r->bye_at_ns;
	if (r->state != REL_OPEN)
		return rel_min(r->bye_at_ns, r->bye_until_ns);
	return r->heard_ns + r->cfg.dead_ns;
}
