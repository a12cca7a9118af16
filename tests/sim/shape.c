// SPDX-License-Identifier: BSD-3-Clause
// Runs flows over one simulated bottleneck. See the header.

#include "shape.h"

#include <stdio.h>
#include <string.h>

bool shape_verbose;

void shape_plan(struct end_plan *p, const struct shape *s, unsigned i)
{
	memset(p, 0, sizeof(*p));
	rel_config_init(&p->cfg);
	p->cfg.token_out = 100 + i;
	p->cfg.token_in = 200 + i;
	p->cfg.mtu_most = s->mtu;
	p->cfg.overhead_bytes = 28;
	p->cfg.packets = 65536;
	p->cfg.ring_bytes = 64 << 20;
	p->passes = 1;
	p->frames = UINT64_MAX;
	p->large = true;
	p->begin_ns = i * s->apart_ns;
	p->poll_ns = s->poll_ns;
	p->period_ns = s->period_ns;
	p->slice_ns = s->slice_ns;
	p->ring = s->period_ns != 0 ? 1024 : 0;
	if (s->target_ns != 0)
		p->cfg.target_ns = p->cfg.first_rtt_ns = s->target_ns;
	if (s->pto_ns != 0)
		p->cfg.least_pto_ns = s->pto_ns;
}

void shape_run_until(struct net *n, uint64_t until_ns)
{
	while (n->n > 0 && n->heap[0].at_ns < until_ns && net_step(n))
		;
}

struct result shape_run(const struct shape *s, uint64_t seed)
{
	static struct end e[FLOWS_MOST];
	struct net_wire there = {.bytes_per_s = s->bytes_per_s,
		.delay_ns = s->delay_ns,
		.jitter_ns = s->jitter_ns,
		.queue_bytes = s->queue_bytes,
		.mark_bytes = s->mark_bytes,
		.mtu = s->mtu,
		.lose = s->lose};
	struct net_wire back = there;
	uint64_t before[FLOWS_MOST], begin;
	struct result r = {0};
	struct net net;

	net_init(&net, seed);
	there.net = back.net = &net;
	begin = net.now_ns + s->apart_ns * (s->flows - 1);
	there.watch_ns = begin + s->watch_ns;
	for (unsigned i = 0; i < s->flows; i++) {
		struct end_plan p;

		shape_plan(&p, s, i);
		end_init(&e[i], &net, &there, &back, &p);
	}
	shape_run_until(&net, begin + s->watch_ns);
	for (unsigned i = 0; i < s->flows; i++)
		before[i] = e[i].goodput_bytes;
	shape_run_until(&net, begin + s->duration_ns);
	for (unsigned i = 0; i < s->flows; i++) {
		r.goodput[i] = (double)(e[i].goodput_bytes - before[i]) * 1e9 /
			       (double)(s->duration_ns - s->watch_ns);
		r.sum += r.goodput[i];
		if (e[i].wrong[0] != 0)
			memcpy(r.wrong, e[i].wrong, sizeof(r.wrong));
		if (shape_verbose)
			printf("   flow %u: %.3f of the wire, window %llu, srtt %llu, base %llu "
			       "us, lost %llu of %llu, wrongly %llu, timeouts %llu, mtu %u\n",
				i, r.goodput[i] / (double)s->bytes_per_s,
				(unsigned long long)e[i].send.cc.window_bytes,
				(unsigned long long)e[i].send.cc.srtt_ns / 1000,
				(unsigned long long)e[i].send.cc.base_ns / 1000,
				(unsigned long long)e[i].send.c.stats.lost,
				(unsigned long long)e[i].send.c.stats.packets_out,
				(unsigned long long)e[i].send.c.stats.spurious,
				(unsigned long long)e[i].send.c.stats.timeouts, e[i].send.path.mtu);
		end_free(&e[i]);
	}
	r.most_queued_s = (double)there.most_queued / (double)s->bytes_per_s;
	r.mean_queued_s =
		(double)there.sum_queued / (double)(there.nqueued + 1) / (double)s->bytes_per_s;
	net_free(&net);
	return r;
}

unsigned shape_check(bool ok, const char *what, double is, double need)
{
	if (!ok || shape_verbose)
		printf("%s: %s: %.4f, needed %.4f\n", ok ? "right" : "WRONG", what, is, need);
	return !ok;
}
