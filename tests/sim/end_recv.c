// SPDX-License-Identifier: BSD-3-Clause
// The target of a simulated flow: keeps the ring, takes frames, compares every byte, answers.

#include "end.h"

#include <string.h>

static void check_taken(struct end *e, const struct frame *f, uint64_t pos)
{
	struct end_frame *g = end_log(e, f->seq);

	if (g->seq != f->seq || g->hdr_crc != f->hdr_crc) {
		end_wrong(e, "a header is not as it was sent", f->seq);
		return;
	}
	if (g->taken++ != 0)
		end_wrong(e, "handed out twice", f->seq);
	if (f->pass != e->recv_pass)
		end_wrong(e, "handed out in another pass", f->seq);
	if (memcmp(e->ring + pos % e->plan.cfg.ring_bytes, end_payload(f->seq), f->payload_bytes) !=
		0)
		end_wrong(e, "bytes are not as they were sent", f->seq);
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
		end_wrong(e, "a barrier came before frames of its pass", f->seq);
	e->recv_pass++;
	e->first_of_pass = f->seq + 1;
	e->placed = e->placed_sum = e->refused = e->taken = 0;
	rel_recv_answer_barrier(&e->recv, e->net->now_ns, &a);
}

// The frame in hand is placed, or whatever becomes of it. False: try again.
static bool answer(struct end *e)
{
	struct rel_recv_frame *f = &e->recv.frame[e->placing_seq & (e->plan.cfg.frames - 1)];
	struct end_frame *g = end_log(e, e->placing_seq);

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
	end_run_recv(e);
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
	end_wake(e, END_TARGET);
	rel_recv_timer(&e->recv, e->net->now_ns);
	end_run_recv(e);
}

void end_run_recv(struct end *e)
{
	struct rel_out o;
	uint64_t at;

	if (e->recv.c.error != 0)
		end_wrong(e, "the target gave up", e->recv.answered);
	if (e->recv.c.stats.beyond != 0)
		end_wrong(e, "the source sent more than was granted", e->recv.answered);
	take_frames(e);
	while (rel_recv_next_packet(&e->recv, e->net->now_ns, &o))
		end_put_out(e, END_TARGET, &o);
	at = rel_recv_deadline(&e->recv);
	if (at == REL_NEVER)
		return;
	at = end_when(e, END_TARGET, at <= e->net->now_ns ? e->net->now_ns + 1 : at);
	if (at < e->recv_timer_ns) {
		e->recv_timer_ns = at;
		net_at(e->net, at, on_recv_timer, e, NULL);
	}
}

static void on_recv_now(void *arg, struct datagram *d)
{
	struct end *e = arg;
	struct rel_part p;

	e->waiting[END_TARGET]--;
	end_wake(e, END_TARGET);
	if (rel_recv_packet(&e->recv, e->net->now_ns, d->bytes, d->len, d->ce, &p)) {
		if (p.pos + p.hdr->payload_bytes > e->recv.answered_pos + e->plan.cfg.ring_bytes)
			end_wrong(e, "a part beyond the ring", p.hdr->seq);
		else if (p.bytes > 0)
			memcpy(e->ring + p.pos % e->plan.cfg.ring_bytes + p.offset, p.data,
				p.bytes);
	}
	net_drop(e->net, d);
	end_run_recv(e);
}

void end_recv_in(void *arg, struct datagram *d)
{
	end_arrive(arg, END_TARGET, d, on_recv_now);
}
