// SPDX-License-Identifier: BSD-3-Clause
// What the protocol promises when nobody is there: cores that others share, silence, death.

#include "shape.h"

#include "clock.h"

#include <stdio.h>

// Cores that others share: each gets a slice now and then. What a flow moves is what two slices and
// the device's ring let through, whatever the round trips look like, and nobody is called dead.
unsigned sim_busy(void)
{
	static const struct {
		uint64_t period_ns, slice_ns;
		uint32_t mtu;
		double need; // of the ring of packets, each period
	} loads[] = {
		{10 * NS_PER_MS, 3 * NS_PER_MS, 1500, 0.3},
		{35 * NS_PER_MS, 3 * NS_PER_MS, 1500, 0.3},
		{35 * NS_PER_MS, 3 * NS_PER_MS, 9000, 0.25},
		{120 * NS_PER_MS, 3 * NS_PER_MS, 1500, 0.3},
	};
	unsigned bad = 0;

	for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
		struct shape s = {.bytes_per_s = 3000000000,
			.delay_ns = 5000,
			.queue_bytes = 20000000,
			.mtu = loads[i].mtu,
			.flows = 1,
			.watch_ns = 3 * NS_PER_S,
			.duration_ns = 8 * NS_PER_S,
			.period_ns = loads[i].period_ns,
			.slice_ns = loads[i].slice_ns,
			.target_ns = 10 * NS_PER_MS,
			.pto_ns = 20 * NS_PER_MS};
		struct result r = shape_run(&s, i + 1);
		double full = 1024.0 * s.mtu * (double)NS_PER_S / (double)s.period_ns;

		if (r.wrong[0] != 0) {
			printf("load %zu: %s\n", i, r.wrong);
			bad++;
		}
		bad += shape_check(r.sum >= loads[i].need * full,
			"goodput on shared cores, of a ring a period", r.sum / full, loads[i].need);
	}
	return bad;
}

// Silence: an idle flow lives, a wire that is cut for a while ends nothing, nor do cores that are
// stopped for longer than a peer may be silent; a dead peer is noticed in time.
unsigned sim_life(void)
{
	static const struct {
		const char *what;
		uint64_t frames, black_ns, run_ns;
		bool dies;
		uint64_t period_ns; /* of it the cores run a tenth */
	} lives[] = {
		{"an idle flow", 0, 0, 100 * NS_PER_S, false, 0},
		{"a wire cut for 5 s", UINT64_MAX, 5 * NS_PER_S, 8 * NS_PER_S, false, 0},
		{"a wire cut for good", UINT64_MAX, 1000 * NS_PER_S, 40 * NS_PER_S, true, 0},
		{"a wire cut for good, idle", 0, 1000 * NS_PER_S, 40 * NS_PER_S, true, 0},
		{"cores stopped for 45 s", UINT64_MAX, 0, 300 * NS_PER_S, false, 50 * NS_PER_S},
	};
	unsigned bad = 0;

	for (size_t i = 0; i < sizeof(lives) / sizeof(lives[0]); i++) {
		struct shape s = {.mtu = 9000};
		struct net_wire there = {.bytes_per_s = 125000000,
			.delay_ns = 50000,
			.queue_bytes = 1000000,
			.mtu = 9000};
		uint64_t goodput, dead_s = 0;
		struct net_wire back;
		struct end_plan p;
		struct net net;
		struct end e;

		net_init(&net, 1);
		there.net = &net;
		if (lives[i].black_ns != 0)
			there.black[0] = (struct net_span){net.now_ns + 100 * NS_PER_MS,
				net.now_ns + 100 * NS_PER_MS + lives[i].black_ns, 0};
		back = there;
		s.period_ns = lives[i].period_ns;
		s.slice_ns = s.period_ns / 10;
		shape_plan(&p, &s, 0);
		p.frames = lives[i].frames;
		p.idle = p.frames == 0;
		end_init(&e, &net, &there, &back, &p);
		shape_run_until(&net, net.now_ns + 5 * NS_PER_S);
		goodput = e.goodput_bytes;
		while (net.now_ns < lives[i].run_ns && dead_s == 0 && net_step(&net))
			if (e.send.c.error != 0 && e.recv.c.error != 0)
				dead_s = net.now_ns / NS_PER_S;
		// It was cut at 1.1 s; silence of 30 s means death.
		bad += shape_check(lives[i].dies ? dead_s >= 30 && dead_s <= 32 : dead_s == 0,
			lives[i].what, (double)dead_s, lives[i].dies ? 31 : 0);
		if (lives[i].frames != 0 && !lives[i].dies)
			bad += shape_check(e.goodput_bytes > goodput, "it goes on after the cut",
				(double)(e.goodput_bytes - goodput), 1);
		end_free(&e);
		net_free(&net);
	}
	return bad;
}
