// SPDX-License-Identifier: BSD-3-Clause
// godwit-bench: times each stage of the data path alone, on one core. For people (a table) and for
// programs (--json: one line a stage and round). Stages alternate: every round runs each stage
// once, so that noise of the machine meets all of them alike, and a ratio can be taken within a
// round.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "about.h"
#include "clock.h"
#include "cpu.h"
#include "memory.h"
#include "nic.h"
#include "options.h"
#include "pingpong.h"
#include "rates.h"
#include "rdma.h"
#include "stage.h"
#include "tcp.h"
#include "track.h"

#define STAGES_MAX 96u

static const struct stage *const tables[] = {stage_memory, stage_codec, stage_path, stage_small,
	stage_fresh, stage_arm, stage_seal, stage_rounds};

struct run {
	const struct stage *stage;
	void *state;
	double cycles[ROUNDS_MAX]; // a page
	double ratio;              // of a codec, the same in each round; 0: it is none
};

static const char usage[] =
	"usage: godwit-bench [OPTION...] [STAGE...]\n"
	"       godwit-bench tcp [OPTION...]\n"
	"       godwit-bench nic [DEVICE DEVICE] [OPTION...]\n"
	"       godwit-bench rdma ADDRESS [OPTION...]\n"
	"       godwit-bench image FILE [OPTION...]\n"
	"       godwit-bench track PID FILE [OPTION...]\n"
	"       godwit-bench pingpong\n"
	"       godwit-bench report RESULT... [--against RESULT] [--out PAGE]\n"
	"Times stages of the data path on one core; STAGE is a name of --list, "
	"or ends in /* for all\n"
	"of a kind. Without STAGE: all. tcp: a whole flow over loopback, and a "
	"plain send/recv loop.\n"
	"nic: over net_memif, or two DPDK devices of this host that reach each other, the source's "
	"first:\n"
	"0000:81:00.0, net_af_packet0,iface=eth1.\n"
	"rdma: a raw flow over the RDMA device of ADDRESS, by the size of its "
	"writes.\n"
	"image: fills FILE, as large as it is, with the image.\n"
	"track: attaches to process PID and tracks FILE, its RAM.\n"
	"pingpong: ns that a cache line takes from CPU 0 to 1 and back.\n"
	"report: makes an HTML page of results, which are JSON lines, and tells what changed.\n"
	"  --size MIB       image (4096)\n"
	"  --content CLASS  mix, zero, text, binary, random, heap (mix)\n"
	"  --seed N         of the image (1)\n"
	"  --from FILE      the image is what FILE holds, again and again\n"
	"  --pid PID        the image is what process PID may write to\n"
	"  --rounds N       1 to 101 (5)\n"
	"  --cpu N          to run on (0)\n"
	"  --huge           image on 2 MiB pages\n"
	"  --mtu BYTES      of IP packets, of nic (9000)\n"
	"  --codec CODEC    of tcp and nic: auto, raw, lz4, deflate:0, zstd:1 ... (raw)\n"
	"  --json           a line for the machine and the settings, then one a stage and round\n"
	"  --list           names of the stages\n"
	"  --help           this text\n";

static bool wanted(const char *name, char **picks, int npicks)
{
	if (npicks == 0)
		return true;
	for (int i = 0; i < npicks; i++) {
		size_t len = strlen(picks[i]);

		if (strcmp(picks[i], name) == 0)
			return true;
		if (len > 0 && picks[i][len - 1] == '*' && strncmp(picks[i], name, len - 1) == 0)
			return true;
	}
	return false;
}

static unsigned pick(struct run *runs, char **picks, int npicks)
{
	unsigned n = 0;

	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
		for (const struct stage *s = tables[t]; s->name != NULL; s++)
			if (n < STAGES_MAX && wanted(s->name, picks, npicks))
				runs[n++].stage = s;
	return n;
}

static bool is_stage(char *word)
{
	static struct run runs[STAGES_MAX];

	return pick(runs, &word, 1) > 0;
}

static void known_stages(const struct options *o, struct err *e)
{
	for (int i = 0; o->mode == MODE_STAGES && i < o->nwords; i++)
		if (!is_stage(o->words[i]))
			err_set(e, EINVAL, "%s: no stage has that name, see --list", o->words[i]);
}

static double gib_per_s(double cycles_a_page)
{
	return (double)clock_cycles_hz() / cycles_a_page * PAGE_BYTES / (1 << 30);
}

static void print_settings(const struct bench *b, const struct options *o)
{
	putchar('{');
	about_print(stdout);
	// The TSC in tens: what is measured of it differs by less from run to run.
	printf(", \"settings\": {\"tsc_mhz\": %llu, \"rounds\": %u, \"cpu\": %d, \"huge\": %s, "
	       "\"seed\": %llu, \"codec\": \"%s\", \"mib\": %llu, \"content\": \"%s\"}}\n",
		(unsigned long long)(clock_cycles_hz() + 5000000) / 10000000 * 10, o->rounds,
		o->cpu, o->huge ? "true" : "false", (unsigned long long)o->seed, o->codec->name,
		(unsigned long long)(o->bytes >> 20), bench_content(b));
	fflush(stdout);
}

static void print_round(const struct bench *b, const struct run *r, unsigned round)
{
	printf("{\"stage\": \"%s\", \"round\": %u, \"content\": \"%s\", \"mib\": %llu, "
	       "\"cycles_a_page\": %.2f, \"gib_per_s\": %.3f",
		r->stage->name, round, bench_content(b),
		(unsigned long long)(b->pages * PAGE_BYTES >> 20), r->cycles[round],
		gib_per_s(r->cycles[round]));
	if (r->ratio > 0)
		printf(", \"ratio\": %.3f", r->ratio);
	printf("}\n");
	fflush(stdout);
}

// Cycles a page of the fastest stage of a kind, as far as this machine's memory goes; 0: none ran.
static double limit(struct run *runs, unsigned n, const char *kind, unsigned rounds)
{
	double least = 0;

	for (unsigned i = 0; i < n; i++) {
		double c = rates_median(runs[i].cycles, rounds);

		if (strncmp(runs[i].stage->name, kind, strlen(kind)) == 0 &&
			(least == 0 || c < least))
			least = c;
	}
	return least;
}

static bool writes(const char *name)
{
	return strncmp(name, "copy", 4) == 0 || strncmp(name, "fill", 4) == 0 ||
	       strncmp(name, "place", 5) == 0 || strncmp(name, "fresh", 5) == 0;
}

static void print_row(struct run *r, double of, unsigned rounds)
{
	double c = rates_median(r->cycles, rounds);

	printf("%-20s %14.1f %10.2f %8.2f %8.2f", r->stage->name, c, gib_per_s(c),
		gib_per_s(r->cycles[rounds - 1]), gib_per_s(r->cycles[0]));
	if (of > 0)
		printf(" %5.0f%%", 100 * of / c);
	else
		printf(" %6s", "-");
	if (r->ratio > 0)
		printf(" %6.2f", r->ratio);
	else
		printf(" %6s", "");
	printf("  %s\n", r->stage->what);
}

static void print_table(
	const struct bench *b, struct run *runs, unsigned n, const struct options *o)
{
	double reading = limit(runs, n, "read/", o->rounds);
	double copying = limit(runs, n, "copy", o->rounds);
	bool missing = false;

	printf("%llu MiB of %s, %s pages, %u rounds, TSC %.0f MHz; medians\n",
		(unsigned long long)(o->bytes >> 20), bench_content(b), o->huge ? "2 MiB" : "4 KiB",
		o->rounds, (double)clock_cycles_hz() / 1e6);
	printf("%-20s %14s %10s %17s %6s %6s  %s\n", "stage", "cycles a page", "GiB/s",
		"min to max", "share", "ratio", "what");
	for (unsigned i = 0; i < n; i++) {
		double most = writes(runs[i].stage->name) ? copying : reading;

		missing |= most <= 0;
		print_row(&runs[i], most, o->rounds);
	}
	printf("share: of the fastest plain copy for copy, fill, fresh and place, of the fastest "
	       "plain read for others%s\n",
		missing ? "; -: say 'read/*' 'copy*' too" : "");
	printf("ratio: bytes of guest memory for each that a codec leaves, or a path sends\n");
}

// Opens stages; those that this machine can't run are left out. Returns how many are left.
static unsigned open_stages(struct bench *b, struct run *runs, unsigned n)
{
	unsigned left = 0;

	for (unsigned i = 0; i < n; i++) {
		const struct stage *s = runs[i].stage;
		void *state = NULL;
		int rc = s->open != NULL ? s->open(b, s->arg, &state) : 0;

		if (rc != 0) {
			fprintf(stderr, "godwit-bench: %s is left out: %s\n", s->name,
				strerror(-rc));
			continue;
		}
		runs[left].stage = s;
		runs[left++].state = state;
	}
	return left;
}

static void time_stages(struct bench *b, struct run *runs, unsigned n, const struct options *o)
{
	for (unsigned round = 0; round < o->rounds; round++)
		for (unsigned i = 0; i < n; i++) {
			const struct stage *s = runs[i].stage;
			uint64_t t0, t1, pages;

			b->aside = 0;
			b->encoded_bytes = 0;
			t0 = cpu_cycles();
			pages = s->run(b, s->arg, runs[i].state);
			t1 = cpu_cycles();
			runs[i].cycles[round] = (double)(t1 - t0 - b->aside) / (double)pages;
			if (b->encoded_bytes > 0)
				runs[i].ratio = (double)(pages * PAGE_BYTES) / b->encoded_bytes;
			if (o->json)
				print_round(b, &runs[i], round);
		}
}

static int list(void)
{
	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
		for (const struct stage *s = tables[t]; s->name != NULL; s++)
			printf("%-18s %s\n", s->name, s->what);
	return 0;
}

static int bench_stages(struct bench *b, const struct options *o, char **picks, int npicks)
{
	static struct run runs[STAGES_MAX];
	unsigned n = pick(runs, picks, npicks);
	int rc;

	rc = pin(o->cpu);
	if (rc != 0)
		fprintf(stderr, "godwit-bench: cannot run on CPU %d alone: %s\n", o->cpu,
			strerror(-rc));
	n = open_stages(b, runs, n);
	if (n == 0)
		return 1;
	time_stages(b, runs, n, o);
	if (!o->json)
		print_table(b, runs, n, o);
	for (unsigned i = 0; i < n; i++)
		if (runs[i].stage->close != NULL)
			runs[i].stage->close(runs[i].state);
	return 0;
}

static int bench_fill_file(const struct bench *b, const char *path)
{
	int rc = bench_file(b, path);

	if (rc != 0)
		fprintf(stderr, "godwit-bench: cannot fill %s: %s\n", path, strerror(-rc));
	return rc != 0;
}

static int report(char **argv)
{
	execv(GODWIT_BENCH_REPORT, argv);
	execv(GODWIT_BENCH_INSTALLED, argv); // where there are no sources
	fprintf(stderr, "godwit-bench: cannot run %s: %s\n", GODWIT_BENCH_INSTALLED,
		strerror(errno));
	return 1;
}

// What works on an image in memory.
static int bench_memory(struct bench *b, const struct options *o)
{
	int rc = bench_image(b, o->bytes, o->huge);

	if (rc != 0) {
		fprintf(stderr,
			"godwit-bench: cannot make an image of %llu MiB%s: %s; try --size\n",
			(unsigned long long)(o->bytes >> 20), o->huge ? " on huge pages" : "",
			strerror(-rc));
		return 1;
	}
	if (o->json)
		print_settings(b, o);
	if (o->mode == MODE_TCP)
		rc = tcp_bench(b, o->codec, o->level, o->rounds, o->json);
	else if (o->mode == MODE_NIC)
		rc = nic_bench(b, o);
	else if (o->mode == MODE_RDMA)
		rc = rdma_bench(b, o->words[0], o->rounds, o->json);
	else
		rc = bench_stages(b, o, o->words, o->nwords);
	bench_free(b);
	return rc;
}

int main(int argc, char **argv)
{
	struct bench b = {0};
	struct options o;
	struct err e = {0};

	if (argc > 1 && strcmp(argv[1], "report") == 0)
		return report(argv + 1);
	if (options_parse(&o, argc, argv, &e) == 0)
		known_stages(&o, &e);
	if (e.errnum != 0) {
		fprintf(stderr, "godwit-bench: %s; see godwit-bench --help\n", e.text);
		return 2;
	}
	if (o.help)
		return fputs(usage, stdout) < 0;
	if (o.list)
		return list();
	b.content = (struct image){.content = o.content, .seed = o.seed, .populate = 100};
	b.from = o.from;
	b.pid = o.pid;
	switch (o.mode) {
	case MODE_PINGPONG:
		return printf("%.0f\n", pingpong_ns(0, 1)) < 0;
	case MODE_IMAGE:
		return bench_fill_file(&b, o.words[0]);
	case MODE_TRACK:
		return track_bench((pid_t)atoi(o.words[0]), o.words[1], o.rounds, o.json);
	default:
		return bench_memory(&b, &o);
	}
}
