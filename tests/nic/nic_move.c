// SPDX-License-Identifier: BSD-3-Clause
// Memory moves between two processes over a pair of DPDK devices, pass by pass, and is the same
// over there. Exits with 77 and the reason where this machine lacks something.
//
//   nic_move --device memif|vhost|packet [--queues N] [--flows N] [--mtu N] [--vlan N] [--mib N]
//            [--passes N] [--lose PERMILLE] [--ip6] [--copy] [--deflate] [--seal] [--seed N]
//            [--keep] [--cut MS] [--dead MS] [--barrier MS] [--capture]
//            [--end cut|kill-source|kill-target|shrink]

#include "nic_world.h"

#include "bits.h"
#include "clock.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void cut_wire(struct world *w)
{
	const struct timespec t = {
		.tv_sec = w->o.cut_ms / 1000, .tv_nsec = (long)(w->o.cut_ms % 1000 * NS_PER_MS)};

	world_wire(w, false);
	nanosleep(&t, NULL);
	world_wire(w, true);
}

static void run_pass(struct world_side *s, struct seed *seed, uint32_t pass)
{
	uint64_t t0;

	world_scribble(s, seed, pass == 0);
	t0 = clock_ns();
	if (s->w->o.cut_ms != 0) {
		// Half of it is under way when the wire goes.
		world_publish(s, pass);
		cut_wire(s->w);
	} else {
		world_publish(s, pass);
	}
	world_wait_pass(s, pass);
	printf("pass %u: %.1f ms\n", pass, (double)(clock_ns() - t0) / 1e6);
	if (dirty_put_back(&s->dirty, 0, s->dirty.nchunks) != 0)
		world_fail("pages were not acknowledged");
}

// The wire is cut before a pass of a few pages begins: they and the barrier go out to nobody. What
// is given up then is dirty again, and goes in the next pass.
static void run_unheard_pass(struct world_side *s, struct seed *seed, uint32_t pass)
{
	const uint64_t pages = 5;
	uint64_t end = clock_ns() + WORLD_WAIT_S * NS_PER_S, back, lost = 0;

	world_wire(s->w, false);
	for (uint64_t at = 0; at < pages * PAGE_BYTES; at += 8) {
		uint64_t word = seed_next(seed);

		memcpy(s->w->from.r[0].base + at, &word, 8);
	}
	bits_set_range(s->dirty.set, 0, pages);
	world_publish(s, pass);
	while (lost < pages && clock_ns() < end) {
		nanosleep(&(const struct timespec){.tv_nsec = (long)NS_PER_MS}, NULL);
		lost = stats_get(&s->flow[0]->stats, STAT_pages_lost);
	}
	world_wire(s->w, true);
	world_wait_pass(s, pass);
	back = dirty_put_back(&s->dirty, 0, s->dirty.nchunks);
	if (lost != pages || back != pages)
		world_fail("%llu pages were given up and %llu put back, not %llu",
			(unsigned long long)lost, (unsigned long long)back,
			(unsigned long long)pages);
}

static int run_source(struct world *w)
{
	struct seed seed = {w->o.seed};
	uint32_t passes = w->o.end == END_WELL ? w->o.passes : 1;
	struct world_side s;

	world_side_open(&s, w, true);
	for (uint32_t pass = 0; pass < passes; pass++)
		(w->o.barrier_ms != 0 && pass == 1 ? run_unheard_pass : run_pass)(&s, &seed, pass);
	if (w->o.end == END_CUT)
		world_wire(w, false);
	if (w->o.end != END_WELL) {
		world_scribble(&s, &seed, true);
		if (w->o.end == END_SHRINK && ftruncate(w->from.r[0].fd, 1 << 20) != 0)
			world_fail("the source's memory can't be shrunk");
		world_publish(&s, passes);
		if (w->o.end == END_KILL_SOURCE)
			raise(SIGKILL);
		if (w->o.end == END_SHRINK)
			world_wait_dead(&s, EFAULT, "region ram0 can't be read");
		else
			world_wait_dead(&s, ETIMEDOUT, "nothing was heard of");
	}
	if (w->o.end == END_WELL)
		world_say(&s, 0); // it knows of the last barrier
	world_side_close(&s, w->o.end != END_WELL && w->o.end != END_SHRINK);
	return 0;
}

static int run_target(struct world *w)
{
	struct world_side s;

	world_side_open(&s, w, false);
	world_wait_pass(&s, w->o.end == END_WELL ? w->o.passes - 1 : 0);
	if (w->o.end == END_KILL_TARGET)
		raise(SIGKILL);
	if (w->o.end == END_SHRINK) // the source says goodbye
		world_wait_dead(&s, ESHUTDOWN, "the peer has ended this flow");
	else if (w->o.end != END_WELL)
		world_wait_dead(&s, ETIMEDOUT, "nothing was heard of");
	else // its answer to the last barrier may be lost: it goes when the source has it, as
	     // sessions do
		world_hear(&s);
	if (w->o.end == END_WELL && recv_job_stale(&s.recv_job) != 0)
		world_fail("nobody has spoken of %llu pages that were kept",
			(unsigned long long)recv_job_stale(&s.recv_job));
	world_side_close(&s, w->o.end != END_WELL && w->o.end != END_SHRINK);
	return 0;
}

// When one fails, the other would only wait for it.
static int wait_both(pid_t source, pid_t target, enum world_end end)
{
	int bad = 0, status;

	for (unsigned i = 0; i < 2; i++) {
		pid_t pid = wait(&status);

		bool meant = pid == (end == END_KILL_SOURCE ? source : target) &&
			     (end == END_KILL_SOURCE || end == END_KILL_TARGET);

		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			continue;
		if (meant && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
			continue;
		if (!bad)
			printf("the %s ended with %s %d\n", pid == source ? "source" : "target",
				WIFEXITED(status) ? "exit code" : "signal",
				WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
		bad = 1;
		kill(pid == source ? target : source, SIGKILL);
	}
	return bad;
}

static pid_t start(struct world *w, bool source)
{
	pid_t pid = fork();

	if (pid == 0) {
		int rc = source ? run_source(w) : run_target(w);

		fflush(stdout);
		_exit(rc);
	}
	return pid;
}

static bool read_end(const char *name, enum world_end *end)
{
	static const struct {
		const char *name;
		enum world_end end;
	} ends[] = {{"cut", END_CUT}, {"kill-source", END_KILL_SOURCE},
		{"kill-target", END_KILL_TARGET}, {"shrink", END_SHRINK}};

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (strcmp(name, ends[i].name) == 0) {
			*end = ends[i].end;
			return true;
		}
	return false;
}

static bool read_options(int argc, char **argv, struct world_options *o, bool *capture)
{
	unsigned permille = 0, seed = 1;
	const struct {
		const char *name;
		unsigned *number; // or
		bool *on;
	} rows[] = {{"queues", &o->queues, NULL}, {"flows", &o->flows, NULL},
		{"mtu", &o->mtu, NULL}, {"vlan", &o->vlan, NULL}, {"mib", &o->mib, NULL},
		{"passes", &o->passes, NULL}, {"lose", &permille, NULL}, {"seed", &seed, NULL},
		{"cut", &o->cut_ms, NULL}, {"dead", &o->dead_ms, NULL},
		{"barrier", &o->barrier_ms, NULL}, {"ip6", NULL, &o->v6}, {"copy", NULL, &o->copy},
		{"deflate", NULL, &o->deflate}, {"seal", NULL, &o->seal}, {"keep", NULL, &o->keep},
		{"capture", NULL, capture}};

	for (int i = 1; i < argc; i++) {
		const char *name = strncmp(argv[i], "--", 2) == 0 ? argv[i] + 2 : "";
		size_t r = 0;

		while (r < sizeof(rows) / sizeof(rows[0]) && strcmp(name, rows[r].name) != 0)
			r++;
		if (r < sizeof(rows) / sizeof(rows[0]) && rows[r].on != NULL)
			*rows[r].on = true;
		else if (++i == argc)
			return false;
		else if (r < sizeof(rows) / sizeof(rows[0]))
			*rows[r].number = (unsigned)strtoul(argv[i], NULL, 0);
		else if (strcmp(name, "device") == 0)
			o->device = argv[i];
		else if (strcmp(name, "end") != 0 || !read_end(argv[i], &o->end))
			return false;
	}
	o->lose = permille * 65536 / 1000;
	o->seed = seed;
	return o->flows > 0 && o->flows <= WORLD_FLOWS;
}

int main(int argc, char **argv)
{
	struct world_options o = {
		.device = "memif", .queues = 1, .flows = 1, .mtu = 9000, .mib = 64, .passes = 3};
	const char *differs;
	struct world w;
	pid_t source, target;
	int bad, listens = -1;
	bool capture = false;

	if (!read_options(argc, argv, &o, &capture))
		return 2;
	world_open(&w, &o);
	if (capture)
		listens = world_capture(&w);
	fflush(stdout);
	target = start(&w, false);
	source = start(&w, true);
	close(w.wire[0]);
	close(w.wire[1]);
	bad = wait_both(source, target, o.end);
	differs = bad || o.end != END_WELL ? NULL : world_differs(&w);
	if (differs != NULL)
		printf("%s\n", differs);
	world_close(&w);
	if (capture && !bad)
		world_read_capture(listens);
	return bad || differs != NULL;
}
