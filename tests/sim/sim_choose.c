// SPDX-License-Identifier: BSD-3-Clause
// The choice of a codec (choose.h) in a simulated pipeline: a core that makes frames, a link with a
// buffer and a rate, a target that takes time for each. No clock, no codec. The time for all frames
// is compared with that of each fixed choice: --codec auto must not be slower than 95 % of the
// best, whatever the rate, the content and the target, and nobody may pay for content that can't be
// compressed. The link tells what it holds, as sockets do, or not; the core is shared with others
// at times. Where it tells, the choice is also held against what nobody could beat who knows all
// frames and needs no buffer.
//
//   sim_choose [-v]

#include "choose.h"

#include <stdio.h>
#include <string.h>

#include "region.h"
#include "seed.h"

#define HZ      2.6e9
#define FRAMES  8000u // 2 GiB of content
#define WAITING 4u
#define FULL    48u
#define SLOTS   32u   // encoded frames that may wait
#define AWAY    2.5e7 // cycles
#define BEST    0.95
#define WINDOW  4194304.0 // cycles

enum { RAW, LZ4_8, LZ4, DEFLATE_1, ZSTD_1, ZSTD_3, ZSTD_5, OPTIONS };
enum content { RANDOM, BINARY, TEXT, HEAP, OBJECTS, CONTENTS, MIX = CONTENTS, CLASSES };

static const char *const option_name[] = {
	"raw", "lz4:8", "lz4", "deflate:1", "zstd:1", "zstd:3", "zstd:5"};
static const char *const content_name[] = {"random", "binary", "text", "heap", "objects", "mix"};
static const unsigned kind_of[] = {0, 3, 5, 7, 6};

// What is so: cycles a byte to encode, bytes on the wire, cycles a byte to decode. What is assumed
// at first is what auto.c assumes.
static const struct truth {
	double cycles, ratio, decode;
} truth[CONTENTS][OPTIONS] = {
	[RANDOM] = {{0, 1, .4}, {.3, 1, .4}, {.6, 1, .4}, {4, 1, .4}, {1.2, 1, .4}, {2, 1, .4},
		{15, 1, .4}},
	[BINARY] = {{0, 1, .4}, {2, .87, .6}, {3.9, .74, .7}, {5.5, .58, 3.6}, {6.5, .58, 1.9},
		{11, .56, 2}, {20, .53, 2}},
	[TEXT] = {{0, 1, .4}, {3.4, .53, .7}, {4.0, .48, .7}, {4.5, .33, 2.5}, {8, .31, 2},
		{12, .29, 2}, {30, .28, 2}},
	[HEAP] = {{0, 1, .4}, {1.9, .38, .6}, {2.2, .33, .6}, {3.6, .24, 2}, {4.2, .22, 1.7},
		{8, .215, 1.7}, {23, .20, 1.7}},
	// The same on a CPU where codecs are nearer to each other.
	[OBJECTS] = {{0, 1, .4}, {3.2, .37, .7}, {3.75, .32, .7}, {4.15, .231, 2}, {6.3, .206, 1.7},
		{10, .2, 1.7}, {25, .19, 1.7}},
};
static const struct choose_cost assumed[OPTIONS] = {{0, 1, 1, 1.9}, {2, .80, 0, 2.1},
	{3.8, .60, 0, 2.2}, {5, .47, 0, 4.0}, {6.5, .45, 0, 3.4}, {10, .43, 0, 3.4},
	{20, .41, 0, 3.4}};

struct wire {
	double bytes_a_cycle;
	double buffer_bytes; // that the source's kernel takes
	bool silent;         // and tells nothing of: links over cards
	double pace;         // bytes a cycle that the source keeps to; 0: none
	double later;        // bytes a cycle, after half of the frames; 0: the same
	bool shared;         // the source's core is slowed down by others, and taken away at times
	bool shaken;         // each option's first frame takes four times as long
	double machine;      // times as long, each frame of all options; 0: 1
	double target_bytes; // that the target's kernel takes
	double send_cycles;  // a byte on the wire, of the source's core
	double decode_times; // the target's core is so much slower, or has so many flows
	double place_cycles; // of it, a byte of content: new memory, for one
};

struct run {
	double cycles;
	unsigned used[OPTIONS];
};

static uint8_t content[FRAMES], option[FRAMES];

static void make_content(enum content class)
{
	static const uint8_t mix[20] = {BINARY, BINARY, BINARY, BINARY, BINARY, BINARY, BINARY,
		BINARY, BINARY, BINARY, BINARY, BINARY, BINARY, BINARY, TEXT, TEXT, TEXT, TEXT,
		RANDOM, RANDOM};
	struct seed s = {.state = 5};

	for (unsigned f = 0; f < FRAMES;) {
		uint8_t c = class == MIX ? mix[seed_below(&s, 20)] : (uint8_t) class;

		for (unsigned n = 1 + (unsigned)seed_below(&s, 7); n > 0 && f < FRAMES; n--)
			content[f++] = c;
	}
}

// Frame f is accepted by the kernel, leaves the wire and is placed at these cycles; bytes of all
// frames before it.
static double accepted[FRAMES], left[FRAMES], placed[FRAMES], before[FRAMES + 1];

static double rate_of(const struct wire *w, unsigned f)
{
	return f >= FRAMES / 2 && w->later > 0 ? w->later : w->bytes_a_cycle;
}

// What has left the wire by now, of frames below f.
static double drained(const struct wire *w, unsigned f, double now)
{
	unsigned q = f;
	double bytes;

	while (q > 0 && left[q - 1] > now)
		q--;
	bytes = before[q];
	if (q < f && now > left[q] - (before[q + 1] - before[q]) / rate_of(w, q))
		bytes += (now - left[q]) * rate_of(w, q) + before[q + 1] - before[q];
	return bytes;
}

// What the kernel has taken by now: all of the frames that it has accepted, and as much of the next
// as has room.
static double taken(const struct wire *w, unsigned head, unsigned f, double now)
{
	double bytes = drained(w, head < f ? head + 1 : f, now);

	if (head == f)
		return before[f];
	return bytes + w->buffer_bytes < before[f] ? bytes + w->buffer_bytes : before[f];
}

// How much slower the core is than alone. Others come and go every 0.3 s, and take it whole at
// times.
static double slower(const struct wire *w, struct seed *s, double now)
{
	double at = now / HZ / .3 - (double)(uint64_t)(now / HZ / .3);

	if (!w->shared)
		return 1;
	return (1 + 1.2 * (at < .5 ? at : 1 - at)) * (seed_below(s, 32) == 0 ? 4 : 1);
}

// What a frame takes times what is so, where this option was used so often before.
static double longer(const struct wire *w, unsigned used)
{
	return (w->machine > 0 ? w->machine : 1) * (w->shaken && used == 0 ? 4 : 1);
}

// How busy the target's core was, as it tells: window by window.
static float busy_in[1 << 20];

static void count_busy(double from, double to)
{
	for (unsigned i = (unsigned)(from / WINDOW); i <= (unsigned)(to / WINDOW); i++) {
		double begin = i * WINDOW, end = begin + WINDOW;

		if (i < sizeof(busy_in) / sizeof(busy_in[0]))
			busy_in[i] +=
				(float)((to < end ? to : end) - (from > begin ? from : begin));
	}
}

static double told_busy(double now)
{
	unsigned i = (unsigned)(now / WINDOW);

	return i < 1 ? 0 : busy_in[i - 1] / WINDOW;
}

static void pass_on(const struct wire *w, unsigned f, double now, double bytes, double decode)
{
	static unsigned full, target_full; // frames from there on are still in the buffers
	double start;

	if (f == 0)
		full = target_full = 0;
	before[f + 1] = before[f] + bytes;
	while (before[f + 1] - before[full] > w->buffer_bytes)
		full++;
	while (before[f + 1] - before[target_full] > w->target_bytes)
		target_full++;
	accepted[f] = full > 0 && left[full - 1] > now ? left[full - 1] : now;
	start = f > 0 && left[f - 1] > accepted[f] ? left[f - 1] : accepted[f];
	if (target_full > 0 && placed[target_full - 1] > start)
		start = placed[target_full - 1];
	left[f] = start + bytes / rate_of(w, f);
	placed[f] = (f > 0 && placed[f - 1] > left[f] ? placed[f - 1] : left[f]) + decode;
	count_busy(placed[f] - decode, placed[f]);
}

// The source sends no more than it may a second, but for what it has not sent for 10 ms.
struct bucket {
	double bytes, then;
};

// Waits until something may be sent. From -1 to 1: how much the pace holds it up.
static double wait_for_pace(const struct wire *w, struct bucket *b, double *now)
{
	double most = w->pace * HZ / 100;

	if (w->pace <= 0)
		return -1;
	b->bytes += w->pace * (*now - b->then);
	b->bytes = b->bytes < most ? b->bytes : most;
	if (b->bytes < 0) {
		*now -= b->bytes / w->pace;
		b->bytes = 0;
	}
	b->then = *now;
	return 1 - 2 * b->bytes / most;
}

static unsigned slots_used(unsigned f, double now)
{
	unsigned n = 0;

	while (f-- > 0 && accepted[f] > now)
		n += option[f] != RAW;
	return n;
}

// When frame f can be made: few may wait for the link, and where frames are chosen for, as many as
// is of use.
static double wait_for_room(const struct wire *w, const struct choose *c, unsigned f, double now)
{
	if (c == NULL || w->silent)
		return f >= WAITING && accepted[f - WAITING] > now ? accepted[f - WAITING] : now;
	if (f >= FULL && accepted[f - FULL] > now)
		now = accepted[f - FULL];
	while (f > 0 &&
		(choose_full(c, before[f] - drained(w, f, now)) || slots_used(f, now) >= SLOTS))
		now += CHUNK_BYTES;
	return now;
}

// fixed: an option for all frames; OPTIONS: as chosen.
static struct run play(const struct wire *w, unsigned fixed)
{
	const double frame = CHUNK_BYTES;
	struct run r = {0};
	struct choose c;
	struct seed s = {.state = 3};
	unsigned head = 0, answered = 0; // frames that were accepted, placed
	struct bucket bucket = {0};
	double now = 0, busy = 0;

	memset(busy_in, 0, sizeof(busy_in));
	choose_init(&c, assumed, OPTIONS, w->silent ? 0 : (uint64_t)w->buffer_bytes);
	for (unsigned f = 0; f < FRAMES; f++) {
		double noise = .9 + .2 * (double)seed_below(&s, 1000) / 1000;
		unsigned k = content[f], o = fixed;
		const struct truth *t;
		double cycles, ratio, held_up, ready = now;
		bool waited;

		now = wait_for_room(w, fixed == OPTIONS ? &c : NULL, f, now);
		held_up = wait_for_pace(w, &bucket, &now);
		waited = now > ready;
		while (head < f && accepted[head] <= now)
			head++;
		if (fixed == OPTIONS) {
			struct choose_link l = {.now_cycles = 1 + (uint64_t)now,
				.sent_bytes = (uint64_t)taken(w, head, f, now),
				.told_cycles = 1 + (uint64_t)now,
				.left_bytes = (uint64_t)drained(w, f, now),
				.waiting = head < f,
				.waited = waited,
				.content_bytes = f * (uint64_t)CHUNK_BYTES,
				.busy_cycles = (uint64_t)busy,
				.pressure = !w->silent     ? -1
					    : f - head < 2 ? (double)(f - head) - 1
							   : 1,
				.target_busy = told_busy(now)};

			if (l.pressure < held_up)
				l.pressure = held_up;
			l.held_bytes = w->silent ? -1 : before[f] - (double)l.left_bytes;
			for (; answered < f && placed[answered] <= now; answered++)
				choose_placed(&c, option[answered], CHUNK_BYTES);
			o = RAW;
			if (choose_look(&c, &l)) {
				o = choose_pick(&c, kind_of[k], CHUNK_BYTES);
				now += 1500;
			}
		}
		t = &truth[k][o];
		option[f] = (uint8_t)o;
		cycles = t->cycles * frame * noise * slower(w, &s, now) * longer(w, r.used[o]);
		ratio = t->ratio < 1 ? t->ratio * noise : 1;
		if (fixed == OPTIONS && o != RAW)
			choose_learn(&c, kind_of[k], o, CHUNK_BYTES, (size_t)(ratio * frame),
				(uint64_t)cycles);
		r.used[o]++;
		now += cycles + .1 * frame + w->send_cycles * ratio * frame;
		busy += .1 * frame + w->send_cycles * ratio * frame;
		if (w->shared && f % 1000 == 500) { // another has the core while this one sends
			now += AWAY;
			busy += AWAY;
		}
		bucket.bytes -= ratio * frame;
		pass_on(w, f, now, ratio * frame,
			(t->decode * w->decode_times + w->place_cycles) * frame);
	}
	r.cycles = placed[FRAMES - 1];
	return r;
}

// Cycles of core and wire for all frames, each with its best option at this price.
static void at_price(const struct wire *w, double price, double *core, double *wire)
{
	*core = *wire = 0;
	for (unsigned f = 0; f < FRAMES; f++) {
		const struct truth *t = truth[content[f]], *found = t;

		for (unsigned o = 1; o < OPTIONS; o++)
			if (t[o].cycles + (w->send_cycles + price) * t[o].ratio <
				found->cycles + (w->send_cycles + price) * found->ratio)
				found = &t[o];
		*core += (found->cycles + .1 + w->send_cycles * found->ratio) * CHUNK_BYTES;
		*wire += found->ratio * CHUNK_BYTES / w->bytes_a_cycle;
	}
}

// The least that core and wire take, if both are always busy: frames are shared out between what is
// best at the price below which the wire is slower, and at the one above.
static double least(const struct wire *w)
{
	double core, wire, core_before, wire_before, price = 0;

	at_price(w, price, &core, &wire);
	while (core < wire && price < 400) {
		core_before = core;
		wire_before = wire;
		at_price(w, price += .25, &core, &wire);
	}
	if (core < wire || price == 0)
		return core > wire ? core : wire;
	return core_before + (core - core_before) * (wire_before - core_before) /
				     (wire_before - core_before + core - wire);
}

static bool race(const struct wire *w, double gbit, enum content class, bool tell)
{
	struct run best = {0}, chosen = play(w, OPTIONS);
	unsigned winner = 0;
	double share;
	bool good;

	for (unsigned o = 0; o < OPTIONS; o++) {
		struct run r = play(w, o);

		if (o == LZ4_8) // auto's alone
			continue;
		if (o == 0 || r.cycles < best.cycles) {
			best = r;
			winner = o;
		}
	}
	share = best.cycles / chosen.cycles;
	good = share >= BEST;
	// Next to nothing is spent on what can't be compressed.
	if (class == RANDOM && chosen.used[RAW] * 50 < FRAMES * 49)
		good = false;
	if (!good || tell) {
		printf("%s%-7s at %5.1f Gbit/s%s%s%s%s, buffer %.1f MB, target %.0f x + %.1f: best "
		       "%s %.3f "
		       "s, auto %.3f s, "
		       "%.3f of the best%s;",
			good ? "" : "WRONG: ", content_name[class], gbit,
			w->silent ? " silent" : "", w->pace > 0 ? " paced" : "",
			w->later > 0 ? " changing" : "", w->shaken ? " shaken" : "",
			w->buffer_bytes / 1e6, w->decode_times, w->place_cycles,
			option_name[winner], best.cycles / HZ, chosen.cycles / HZ, share,
			w->shared ? ", core shared" : "");
		for (unsigned o = 0; o < OPTIONS; o++)
			printf(" %s %u", option_name[o], chosen.used[o]);
		printf("\n");
	}
	return good;
}

static unsigned races, wrong;

static void run(const struct wire *w, double gbit, enum content class, bool tell)
{
	races++;
	wrong += !race(w, gbit, class, tell);
}

static double bytes_of(double gbit)
{
	return gbit * 1e9 / 8 / HZ;
}

// The least time is hardly missed where wire and core both have much to do.
static void race_least(bool tell)
{
	static const struct {
		double gbit, share;
	} at[] = {{2.5, .975}, {5, .99}, {10, .985}, {25, .99}};

	make_content(MIX);
	for (unsigned r = 0; r < sizeof(at) / sizeof(at[0]); r++) {
		struct wire w = {.bytes_a_cycle = bytes_of(at[r].gbit),
			.buffer_bytes = 4e6,
			.target_bytes = 6e6,
			.decode_times = 1,
			.send_cycles = .5};
		double share = least(&w) / play(&w, OPTIONS).cycles;
		bool good = share >= at[r].share && share <= 1.01;

		races++;
		wrong += !good;
		if (!good || tell)
			printf("%smix at %.1f Gbit/s: %.3f of what is possible\n",
				good ? "" : "WRONG: ", at[r].gbit, share);
	}
}

static void race_buffers(double gbit, enum content class, bool tell)
{
	static const double buffers[] = {2e6, 4e6, 8e6};
	struct wire w = {.bytes_a_cycle = bytes_of(gbit),
		.target_bytes = 6e6,
		.decode_times = 1,
		.send_cycles = .5};

	for (unsigned b = 0; b < sizeof(buffers) / sizeof(buffers[0]); b++) {
		w.buffer_bytes = buffers[b];
		for (unsigned how = 0; how < 4; how++) {
			w.silent = how & 1;
			w.shared = how & 2;
			if (how < 3)
				run(&w, gbit, class, tell);
		}
	}
	// Next to no buffer: the core and the wire take turns.
	w.shared = false;
	w.buffer_bytes = 300e3;
	for (unsigned how = 0; how < 2; how++) {
		w.silent = how;
		run(&w, gbit, class, tell);
	}
	// The wire could do more than the source may.
	w.buffer_bytes = 4e6;
	w.silent = false;
	w.pace = w.bytes_a_cycle;
	w.bytes_a_cycle = bytes_of(100);
	run(&w, gbit, class, tell);
}

static void race_targets(double gbit, enum content class, bool tell)
{
	// Memory that is new there; a slower core, or more flows on it; both.
	static const double slow[][2] = {{1, 1}, {1, 3}, {2, 0}, {4, 0}, {8, 0}, {3, 2}};

	for (unsigned t = 0; t < sizeof(slow) / sizeof(slow[0]); t++)
		for (unsigned how = 0; how < 3; how++) {
			struct wire w = {.bytes_a_cycle = bytes_of(gbit),
				.buffer_bytes = how == 0 ? 300e3 : 4e6,
				.silent = how == 2,
				.target_bytes = 6e6,
				.send_cycles = .5,
				.decode_times = slow[t][0],
				.place_cycles = slow[t][1]};

			run(&w, gbit, class, tell);
		}
}

// The wire becomes a hundred times as fast, or as slow, on the way.
static void race_changes(enum content class, bool tell)
{
	for (unsigned how = 0; how < 4; how++) {
		struct wire w = {.bytes_a_cycle = bytes_of(how & 1 ? 1 : 100),
			.later = bytes_of(how & 1 ? 100 : 1),
			.silent = how & 2,
			.buffer_bytes = 4e6,
			.target_bytes = 6e6,
			.decode_times = 1,
			.send_cycles = .5};

		run(&w, how & 1 ? 1 : 100, class, tell);
	}
}

// Core and wire take the same time for one option: whatever else is chosen, one of them loses. A
// core that is a little slower or faster than the wire now and then changes nothing.
static void race_knees(enum content class, bool tell)
{
	static const unsigned at[] = {LZ4, DEFLATE_1, ZSTD_1};
	static const double times[] = {.95, 1, 1.05};

	for (unsigned i = 0; i < 3 * 3 * 3; i++) {
		const struct truth *t = &truth[class][at[i % 3]];
		struct wire w = {.buffer_bytes = 4e6,
			.target_bytes = 6e6,
			.decode_times = 1,
			.send_cycles = .5,
			.shared = i / 9 == 1,
			.shaken = i / 9 == 2};

		w.bytes_a_cycle = t->ratio / (t->cycles + .1 + .5 * t->ratio) * times[i / 3 % 3];
		run(&w, w.bytes_a_cycle * HZ * 8 / 1e9, class, tell);
	}
}

// All takes five times as long as is assumed.
static void race_slow(double gbit, enum content class, bool tell)
{
	struct wire w = {.bytes_a_cycle = bytes_of(gbit),
		.buffer_bytes = 4e6,
		.target_bytes = 6e6,
		.decode_times = 1,
		.send_cycles = .5,
		.machine = 5};

	for (unsigned how = 0; how < 2; how++) {
		w.silent = how;
		run(&w, gbit, class, tell);
	}
}

int main(int argc, char **argv)
{
	static const double gbit[] = {1, 2.5, 5, 10, 25, 100};
	bool tell = argc > 1 && strcmp(argv[1], "-v") == 0;

	for (enum content class = 0; class < CLASSES; class ++) {
		make_content(class);
		for (unsigned r = 0; r < sizeof(gbit) / sizeof(gbit[0]); r++) {
			race_buffers(gbit[r], class, tell);
			race_targets(gbit[r], class, tell);
			race_slow(gbit[r], class, tell);
		}
		race_changes(class, tell);
		if (class != RANDOM && class != MIX)
			race_knees(class, tell);
	}
	race_least(tell);
	printf("%u races, %u lost\n", races, wrong);
	return wrong > 0;
}
