// SPDX-License-Identifier: BSD-3-Clause
// A flow of the simulation: plays the two links, the source's frames and the target's memory.
//
// Content is known from a frame's number alone, so both sides can be compared without a copy.

#include "end.h"

#include "bits.h"
#include "codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONTENT_BYTES ((size_t)1 << 20)

static uint8_t content[CONTENT_BYTES + FRAME_PAYLOAD_BYTES];

static void wrong(struct end *e, const char *what, uint64_t seq)
{
	if (e->wrong[0] == 0)
		snprintf(e->wrong, sizeof(e->wrong), "%s, frame %llu, pass %u", what,
			(unsigned long long)seq, e->pass);
}

static uint8_t *payload_of(uint64_t seq)
{
	return content + seq * UINT64_C(0x9e3779b97f4a7c15) % CONTENT_BYTES;
}

static struct end_frame *log_of(struct end *e, uint64_t seq)
{
	return &e->log[seq % e->nlog];
}

bool end_over(const struct end *e)
{
	return e->wrong[0] != 0 ||
	       (e->finished && e->send.c.state == REL_CLOSED && e->recv.c.state == REL_CLOSED);
}

static void run_send(struct end *e);
static void run_recv(struct end *e);

// A core that looks only so often sees things late.
static uint64_t when(const struct end *e, uint64_t at_ns)
{
	uint64_t p = e->plan.poll_ns;

	if (at_ns < e->net->now_ns)
		at_ns = e->net->now_ns;
	return p == 0 ? at_ns : (at_ns + p - 1) / p * p;
}

// Source.

static void random_frame(struct end *e, struct frame *f)
{
	struct seed *s = &e->net->seed;
	uint64_t kind = e->plan.large ? 0 : seed_below(s, 8);

	*f = (struct frame){.type = FRAME_CHUNK, .pass = e->pass, .chunks = 1};
	f->chunk = (uint32_t)seed_below(s, 1000);
	if (kind == 7) {
		f->type = FRAME_ZERO;
		f->chunks = 5;
		return;
	}
	f->data = kind < 2 ? ~UINT64_C(0) : seed_mask(s) & bits_low((unsigned)seed_below(s, 20));
	if (e->plan.large)
		f->data = ~UINT64_C(0);
	f->hole = ~f->data & 3;
	if (f->data == 0) {
		f->hole = 1;
		return;
	}
	f->payload_bytes = bits_count(f->data) * (uint32_t)PAGE_BYTES;
	if (kind > 4) {
		f->codec = CODEC_DEFLATE;
		f->payload_bytes = 1 + (uint32_t)seed_below(s, f->payload_bytes);
	}
	f->payload_crc = (uint32_t)seed_next(s);
}

static void submit(struct end *e)
{
	struct frame f;

	while (!e->finished && !e->barrier_out && e->send.c.state == REL_OPEN) {
		// Asked first, so that a refusal does not change what chance gives.
		if (e->send.next - e->send.taken >= e->plan.cfg.frames ||
			e->send.next >= e->send.frame_limit)
			return;
		if (e->in_pass == e->plan.frames)
			f = (struct frame){.type = FRAME_BARRIER,
				.pass = e->pass,
				.data = e->frames,
				.zero = e->sum};
		else
			random_frame(e, &f);
		if (!rel_send_frame(&e->send, &f, e->net->now_ns)) {
			wrong(e, "a frame was refused though there is room", e->send.next);
			return;
		}
		*log_of(e, f.seq) =
			(struct end_frame){f.seq, f.hdr_crc, f.payload_bytes, 0, UINT8_MAX};
		if (f.type == FRAME_BARRIER) {
			e->barrier_out = true;
			return;
		}
		e->in_pass++;
		e->frames++;
		e->sum += frame_sum(&f);
	}
}

static void on_barrier(struct end *e, const struct frame *f)
{
	if (f->type != FRAME_BARRIER_ACK || f->pass != e->pass ||
		(e->lost == 0 && (f->data != e->frames - e->torn || f->hole != e->torn ||
					 f->zero != e->sum - e->torn_sum)) ||
		f->data + f->hole > e->frames || f->data < e->frames - e->torn - e->lost)
		wrong(e, "the sums of a pass do not agree", f->seq);
	e->barrier_out = false;
	e->in_pass = e->frames = e->sum = e->torn = e->torn_sum = e->lost = 0;
	if (++e->pass == e->plan.passes) {
		e->finished = true;
		e->ended_ns = e->net->now_ns;
		rel_leave(&e->send.c, 0, e->net->now_ns);
	}
}

static void take_done(struct end *e)
{
	struct rel_done d;

	while (rel_send_take(&e->send, &d)) {
		const struct end_frame *g = log_of(e, d.hdr.seq);

		if (d.barrier) {
			on_barrier(e, &d.hdr);
			return;
		}
		if (g->seq != d.hdr.seq || g->hdr_crc != d.hdr.hdr_crc)
			wrong(e, "an answer to another frame", d.hdr.seq);
		if (d.state == REL_FRAME_PLACED && g->answer != REL_PLACED)
			wrong(e, "reported as placed, but is not", d.hdr.seq);
		if (d.state == REL_FRAME_TORN && g->answer != REL_TORN)
			wrong(e, "reported as torn, but is not", d.hdr.seq);
		if (d.state == REL_FRAME_LOST && e->plan.cfg.barrier_ns == 0 &&
			g->answer != REL_LOST)
			wrong(e, "reported as lost, but is not", d.hdr.seq);
		if (d.state == REL_FRAME_TORN) {
			e->torn++;
			e->torn_sum += frame_sum(&d.hdr);
		}
		e->lost += d.state == REL_FRAME_LOST;
	}
}

static void on_recv_in(void *arg, struct datagram *d);
static void on_send_in(void *arg, struct datagram *d);

static void put_out(struct end *e, struct rel_out *o, struct net_wire *w, net_fn fn)
{
	struct datagram *d = net_datagram(e->net);
	struct iovec part = {payload_of(o->seq) + o->offset, o->bytes};

	packet_seal(o->hdr, o->hdr_bytes, &part, o->bytes > 0);
	memcpy(d->bytes, o->hdr, o->hdr_bytes);
	if (o->bytes > 0)
		memcpy(d->bytes + o->hdr_bytes, part.iov_base, part.iov_len);
	d->len = o->hdr_bytes + o->bytes;
	memset(d->bytes + d->len, 0, o->pad_bytes);
	d->len += o->pad_bytes;
	net_send(w, d, (uint32_t)d->len + e->plan.cfg.overhead_bytes, fn, e);
}

static void on_send_timer(void *arg, struct datagram *d)
{
	struct end *e = arg;

	(void)d;
	if (e->net->now_ns != e->send_timer_ns)
		return; // an earlier one took its place
	e->send_timer_ns = REL_NEVER;
	rel_send_timer(&e->send, e->net->now_ns);
	run_send(e);
}

static void run_send(struct end *e)
{
	struct rel_out o;
	uint64_t at;

	if (e->send.c.error != 0)
		wrong(e, "the source gave up", e->send.settled);
	take_done(e);
	submit(e);
	while (rel_send_next_packet(&e->send, e->net->now_ns, &o))
		put_out(e, &o, e->there, on_recv_in);
	at = rel_send_deadline(&e->send);
	if (at == REL_NEVER)
		return;
	// At the earliest a little later, so that time goes on whatever is asked for.
	at = when(e, at <= e->net->now_ns ? e->net->now_ns + 1 : at);
	if (at < e->send_timer_ns) {
		e->send_timer_ns = at;
		net_at(e->net, at, on_send_timer, e, NULL);
	}
}

static void on_send_now(void *arg, struct datagram *d)
{
	struct end *e = arg;

	rel_send_packet_in(&e->send, e->net->now_ns, d->bytes, d->len);
	net_drop(e->net, d);
	run_send(e);
}

static void on_send_in(void *arg, struct datagram *d)
{
	struct end *e = arg;

	if (e->plan.poll_ns == 0)
		on_send_now(e, d);
	else
		net_at(e->net, when(e, e->net->now_ns), on_send_now, e, d);
}

// Target.

static void check_taken(struct end *e, const struct frame *f, uint64_t pos)
{
	struct end_frame *g = log_of(e, f->seq);

	if (g->seq != f->seq || g->hdr_crc != f->hdr_crc) {
		wrong(e, "a header is not as it was sent", f->seq);
		return;
	}
	if (g->taken++ != 0)
		wrong(e, "handed out twice", f->seq);
	if (f->pass != e->recv_pass)
		wrong(e, "handed out in another pass", f->seq);
	if (memcmp(e->ring + pos % e->plan.cfg.ring_bytes, payload_of(f->seq), f->payload_bytes) !=
		0)
		wrong(e, "bytes are not as they were sent", f->seq);
	e->taken++;
}

static void answer_barrier(struct end *e, const struct frame *f)
{
	struct frame a = {.type = FRAME_BARRIER_ACK,
		.pass = f->pass,
		.seq = f->seq,
		.data = e->placed,
		.zero = e->placed_sum,
		.hole = e->refused};

	if (e->taken != f->seq + 1 - e->first_of_pass && e->plan.cfg.barrier_ns == 0)
		wrong(e, "a barrier came before frames of its pass", f->seq);
	e->recv_pass++;
	e->first_of_pass = f->seq + 1;
	e->placed = e->placed_sum = e->refused = e->taken = 0;
	rel_recv_answer_barrier(&e->recv, e->net->now_ns, &a);
}

// The frame in hand is placed, or whatever becomes of it. False: try again.
static bool answer(struct end *e)
{
	struct rel_recv_frame *f = &e->recv.frame[e->placing_seq & (e->plan.cfg.frames - 1)];
	struct end_frame *g = log_of(e, e->placing_seq);

	if (f->hdr.type == FRAME_BARRIER) {
		g->answer = REL_PLACED;
		answer_barrier(e, &f->hdr);
		return true;
	}
	if (g->answer == UINT8_MAX) {
		g->answer = REL_PLACED;
		if (net_chance(e->net, e->plan.tear))
			g->answer = REL_TORN;
		else if (net_chance(e->net, e->plan.drop))
			g->answer = REL_LOST;
	}
	if (!rel_recv_answer(&e->recv, e->net->now_ns, e->placing_seq, g->answer))
		return false;
	if (g->answer == REL_PLACED) {
		e->placed++;
		e->placed_sum += frame_sum(&f->hdr);
		e->goodput_bytes += f->hdr.payload_bytes;
	}
	e->refused += g->answer == REL_TORN;
	return true;
}

static void on_placed(void *arg, struct datagram *d)
{
	struct end *e = arg;

	(void)d;
	e->placing = false;
	if (!answer(e)) {
		e->placing = true;
		net_at(e->net, e->net->now_ns + 50000, on_placed, e, NULL);
	}
	run_recv(e);
}

static void take_frames(struct end *e)
{
	const struct frame *f;
	uint64_t pos;

	while (!e->placing && rel_recv_take(&e->recv, &f, &pos)) {
		check_taken(e, f, pos);
		e->placing = true;
		e->placing_seq = f->seq;
		if (e->plan.place_ns == 0 && answer(e))
			e->placing = false;
		else
			net_at(e->net,
				e->net->now_ns + seed_below(&e->net->seed, e->plan.place_ns + 50),
				on_placed, e, NULL);
	}
}

static void on_recv_timer(void *arg, struct datagram *d)
{
	struct end *e = arg;

	(void)d;
	if (e->net->now_ns != e->recv_timer_ns)
		return; // an earlier one took its place
	e->recv_timer_ns = REL_NEVER;
	rel_recv_timer(&e->recv, e->net->now_ns);
	run_recv(e);
}

static void run_recv(struct end *e)
{
	struct rel_out o;
	uint64_t at;

	if (e->recv.c.error != 0)
		wrong(e, "the target gave up", e->recv.answered);
	if (e->recv.c.stats.beyond != 0)
		wrong(e, "the source sent more than was granted", e->recv.answered);
	take_frames(e);
	while (rel_recv_next_packet(&e->recv, e->net->now_ns, &o))
		put_out(e, &o, e->back, on_send_in);
	at = rel_recv_deadline(&e->recv);
	if (at == REL_NEVER)
		return;
	at = when(e, at <= e->net->now_ns ? e->net->now_ns + 1 : at);
	if (at < e->recv_timer_ns) {
		e->recv_timer_ns = at;
		net_at(e->net, at, on_recv_timer, e, NULL);
	}
}

static void on_recv_now(void *arg, struct datagram *d)
{
	struct end *e = arg;
	struct rel_part p;

	if (rel_recv_packet(&e->recv, e->net->now_ns, d->bytes, d->len, d->ce, &p)) {
		if (p.pos + p.hdr->payload_bytes > e->recv.answered_pos + e->plan.cfg.ring_bytes)
			wrong(e, "a part beyond the ring", p.hdr->seq);
		else if (p.bytes > 0)
			memcpy(e->ring + p.pos % e->plan.cfg.ring_bytes + p.offset, p.data,
				p.bytes);
	}
	net_drop(e->net, d);
	run_recv(e);
}

static void on_recv_in(void *arg, struct datagram *d)
{
	struct end *e = arg;

	if (e->plan.poll_ns == 0)
		on_recv_now(e, d);
	else
		net_at(e->net, when(e, e->net->now_ns), on_recv_now, e, d);
}

// Both.

static void begin(void *arg, struct datagram *d)
{
	struct end *e = arg;
	struct rel_config *g = &e->plan.cfg, back = *g;

	(void)d;
	back.token_out = g->token_in;
	back.token_in = g->token_out;
	rel_send_init(&e->send, g, e->send_mem, e->net->now_ns);
	rel_recv_init(&e->recv, &back, e->recv_mem, e->net->now_ns);
	e->began_ns = e->net->now_ns;
	run_send(e);
	run_recv(e);
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
