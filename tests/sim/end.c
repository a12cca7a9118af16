// SPDX-License-Identifier: BSD-3-Clause
// A flow of the simulation: what its two ends share, and their begin and end.
//
// Content is known from a frame's number alone, so both sides can be compared without a copy.

#include "end.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEAVE_CHANCE  200u // parts of 65536, of a packet
#define CONTENT_BYTES ((size_t)1 << 20)
#define ROUND_MOST    40u

static uint8_t content[CONTENT_BYTES + FRAME_PAYLOAD_BYTES];

void end_wrong(struct end *e, const char *what, uint64_t seq)
{
	if (e->wrong[0] == 0)
		snprintf(e->wrong, sizeof(e->wrong), "%s, frame %llu, pass %u", what,
			(unsigned long long)seq, e->pass);
}

uint8_t *end_payload(uint64_t seq)
{
	return content + seq * UINT64_C(0x9e3779b97f4a7c15) % CONTENT_BYTES;
}

struct end_frame *end_log(struct end *e, uint64_t seq)
{
	return &e->log[seq % e->nlog];
}

bool end_over(const struct end *e)
{
	return e->wrong[0] != 0 ||
	       (e->finished && e->send.c.state == REL_CLOSED && e->recv.c.state == REL_CLOSED);
}

// Where the slice of a period begins: by chance, but the same whenever it is asked.
static uint64_t slice_begin(const struct end *e, enum end_side side, uint64_t period)
{
	struct seed s = {e->seed + 2 * period + side};
	uint64_t room = e->plan.period_ns - e->plan.slice_ns;

	return period * e->plan.period_ns + seed_below(&s, room + 1);
}

// A core that looks only so often, or is not always there, sees things late.
uint64_t end_when(const struct end *e, enum end_side side, uint64_t at_ns)
{
	uint64_t p = e->plan.poll_ns, t = e->plan.period_ns, begin;

	if (at_ns < e->net->now_ns)
		at_ns = e->net->now_ns;
	if (at_ns < e->back_ns[side])
		at_ns = e->back_ns[side];
	if (t != 0) {
		begin = slice_begin(e, side, at_ns / t);
		if (at_ns >= begin + e->plan.slice_ns)
			begin = slice_begin(e, side, at_ns / t + 1);
		return at_ns > begin ? at_ns : begin;
	}
	return p == 0 ? at_ns : (at_ns + p - 1) / p * p;
}

// As long as it is there a core looks all the time; only when it comes back time has passed.
void end_wake(struct end *e, enum end_side side)
{
	struct rel *r = side == END_SOURCE ? &e->send.c : &e->recv.c;
	uint64_t now = e->net->now_ns, t = e->plan.period_ns;

	if (t == 0) {
		r->looked_ns = now - e->plan.poll_ns;
		rel_look(r, now);
		return;
	}
	for (uint64_t at = r->looked_ns / t; at <= now / t; at++) {
		uint64_t begin = slice_begin(e, side, at);

		if (begin <= r->looked_ns)
			continue;
		if (at > e->began_ns / t)
			r->looked_ns = slice_begin(e, side, at - 1) + e->plan.slice_ns;
		if (e->back_ns[side] == begin)
			r->looked_ns = e->left_ns[side];
		rel_look(r, begin);
	}
}

void end_arrive(struct end *e, enum end_side side, struct datagram *d, net_fn fn)
{
	uint64_t at = end_when(e, side, e->net->now_ns);

	if (e->plan.ring != 0 && e->waiting[side] >= e->plan.ring) {
		net_drop(e->net, d);
		return;
	}
	e->waiting[side]++;
	if (at == e->net->now_ns)
		fn(e, d);
	else
		net_at(e->net, at, fn, e, d);
}

static void leave(struct end *e, enum end_side side, struct datagram *d)
{
	net_send(side == END_SOURCE ? e->there : e->back, d,
		(uint32_t)d->len + e->plan.cfg.overhead_bytes,
		side == END_SOURCE ? end_recv_in : end_send_in, e);
}

static void leave_source(void *arg, struct datagram *d)
{
	leave(arg, END_SOURCE, d);
}

static void leave_target(void *arg, struct datagram *d)
{
	leave(arg, END_TARGET, d);
}

// The core may be gone before the device has it.
static uint64_t leaves_at(struct end *e, enum end_side side)
{
	uint64_t now = e->net->now_ns, t = e->plan.period_ns;

	if (t != 0 && e->back_ns[side] <= now && net_chance(e->net, LEAVE_CHANCE)) {
		e->left_ns[side] = now;
		e->back_ns[side] = slice_begin(e, side, now / t + 1);
	}
	return e->back_ns[side] > now ? e->back_ns[side] : now;
}

void end_put_out(struct end *e, enum end_side side, struct rel_out *o)
{
	struct datagram *d = net_datagram(e->net);
	struct iovec part = {end_payload(o->seq) + o->offset, o->bytes};
	uint64_t at = leaves_at(e, side);

	packet_seal(o->hdr, o->hdr_bytes, &part, o->bytes > 0);
	memcpy(d->bytes, o->hdr, o->hdr_bytes);
	if (o->bytes > 0)
		memcpy(d->bytes + o->hdr_bytes, part.iov_base, part.iov_len);
	d->len = o->hdr_bytes + o->bytes;
	memset(d->bytes + d->len, 0, o->pad_bytes);
	d->len += o->pad_bytes;
	if (at > e->net->now_ns)
		net_at(e->net, at, side == END_SOURCE ? leave_source : leave_target, e, d);
	else
		leave(e, side, d);
}

// Counts that go round are begun just before they do.
static void begin_counts(struct end *e)
{
	struct seed s = {e->seed};

	e->send.marks_known = e->recv.first_mark = (uint16_t)-seed_below(&s, ROUND_MOST);
	e->send.c.away_sum_ns = (UINT16_MAX - seed_below(&s, ROUND_MOST)) * PACKET_AWAY_NS;
	e->recv.c.away_sum_ns = (UINT16_MAX - seed_below(&s, ROUND_MOST)) * PACKET_AWAY_NS;
	e->send.peer_away = rel_away_sum(&e->recv.c);
}

static void begin(void *arg, struct datagram *d)
{
	struct end *e = arg;
	struct rel_config *g = &e->plan.cfg, back = *g;

	(void)d;
	back.token_out = g->token_in;
	back.token_in = g->token_out;
	rel_send_init(&e->send, g, e->send_mem, e->net->now_ns);
	rel_recv_init(&e->recv, &back, e->recv_mem, e->net->now_ns);
	begin_counts(e);
	e->recv.busy = END_BUSY;
	e->began_ns = e->net->now_ns;
	end_run_send(e);
	end_run_recv(e);
}

void end_init(struct end *e, struct net *n, struct net_wire *there, struct net_wire *back,
	const struct end_plan *p)
{
	if (content[0] == 0) {
		struct seed s = {1};

		seed_fill(&s, content, sizeof(content));
		content[0] = 1;
	}
	memset(e, 0, sizeof(*e));
	e->net = n;
	e->seed = p->begin_ns + p->cfg.token_out;
	e->there = there;
	e->back = back;
	e->plan = *p;
	e->nlog = p->cfg.frames * 2;
	e->send_mem = calloc(1, rel_send_bytes(&p->cfg));
	e->recv_mem = calloc(1, rel_recv_bytes(&p->cfg));
	e->ring = calloc(1, p->cfg.ring_bytes + FRAME_PAYLOAD_BYTES);
	e->log = calloc(e->nlog, sizeof(*e->log));
	if (e->send_mem == NULL || e->recv_mem == NULL || e->ring == NULL || e->log == NULL)
		abort();
	e->send_timer_ns = e->recv_timer_ns = REL_NEVER;
	net_at(n, n->now_ns + p->begin_ns, begin, e, NULL);
}

void end_free(struct end *e)
{
	free(e->send_mem);
	free(e->recv_mem);
	free(e->ring);
	free(e->log);
}
