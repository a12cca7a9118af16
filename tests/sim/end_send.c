// SPDX-License-Identifier: BSD-3-Clause
// The source of a simulated flow: makes frames pass by pass, and checks what is reported of each.

#include "end.h"

#include "bits.h"
#include "codec.h"

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

	while (!e->plan.idle && !e->finished && !e->barrier_out && e->send.c.state == REL_OPEN) {
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
			end_wrong(e, "a frame was refused though there is room", e->send.next);
			return;
		}
		*end_log(e, f.seq) =
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
		end_wrong(e, "the sums of a pass do not agree", f->seq);
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
		const struct end_frame *g = end_log(e, d.hdr.seq);

		if (d.barrier) {
			on_barrier(e, &d.hdr);
			return;
		}
		if (g->seq != d.hdr.seq || g->hdr_crc != d.hdr.hdr_crc)
			end_wrong(e, "an answer to another frame", d.hdr.seq);
		if (d.state == REL_FRAME_PLACED && g->answer != REL_PLACED)
			end_wrong(e, "reported as placed, but is not", d.hdr.seq);
		if (d.state == REL_FRAME_TORN && g->answer != REL_TORN)
			end_wrong(e, "reported as torn, but is not", d.hdr.seq);
		if (d.state == REL_FRAME_LOST && e->plan.cfg.barrier_ns == 0 &&
			g->answer != REL_LOST)
			end_wrong(e, "reported as lost, but is not", d.hdr.seq);
		if (d.state == REL_FRAME_TORN) {
			e->torn++;
			e->torn_sum += frame_sum(&d.hdr);
		}
		e->lost += d.state == REL_FRAME_LOST;
	}
}

static void on_send_timer(void *arg, struct datagram *d)
{
	struct end *e = arg;

	(void)d;
	if (e->net->now_ns != e->send_timer_ns)
		return; // an earlier one took its place
	e->send_timer_ns = REL_NEVER;
	end_wake(e, END_SOURCE);
	rel_send_timer(&e->send, e->net->now_ns);
	end_run_send(e);
}

void end_run_send(struct end *e)
{
	struct rel_out o;
	uint64_t at;

	if (e->send.c.error != 0)
		end_wrong(e, "the source gave up", e->send.settled);
	take_done(e);
	submit(e);
	while (rel_send_next_packet(&e->send, e->net->now_ns, &o))
		end_put_out(e, END_SOURCE, &o);
	at = rel_send_deadline(&e->send);
	if (at == REL_NEVER)
		return;
	// At the earliest a little later, so that time goes on whatever is asked for.
	at = end_when(e, END_SOURCE, at <= e->net->now_ns ? e->net->now_ns + 1 : at);
	if (at < e->send_timer_ns) {
		e->send_timer_ns = at;
		net_at(e->net, at, on_send_timer, e, NULL);
	}
}

static void on_send_now(void *arg, struct datagram *d)
{
	struct end *e = arg;

	e->waiting[END_SOURCE]--;
	end_wake(e, END_SOURCE);
	rel_send_packet_in(&e->send, e->net->now_ns, d->bytes, d->len);
	if (e->send.peer_busy != END_BUSY && (e->send.any_acked || e->send.peer_busy != 0))
		end_wrong(e, "the target's core is not as busy as it told", e->send.settled);
	net_drop(e->net, d);
	end_run_send(e);
}

void end_send_in(void *arg, struct datagram *d)
{
	end_arrive(arg, END_SOURCE, d, on_send_now);
}
