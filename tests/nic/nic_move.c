// SPDX-License-Identifier: BSD-3-Clause
// Memory moves between two processes over a pair of DPDK devices, pass by pass, and is the same
// over there. Exits with 77 and the reason where this machine lacks something.
//
//   nic_move --device memif|vhost|packet [--queues N] [--flows N] [--mtu N] [--vlan N] [--mib N]
//            [--passes N] [--lose PERMILLE] [--ip6] [--copy] [--deflate] [--seal] [--seed N]
//            [--cut MS] [--dead MS] [--barrier MS] [--capture]
//            [--end cut|kill-source|kill-target|shrink]

#include "nic_world.h"

#include "bits.h"
#include "clock.h"

#include <errno.h>
#include <getopt.h>
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

int main(int argc, char **argv)
{
	static const struct option long_options[] = {{"device", 1, NULL, 'd'},
		{"queues", 1, NULL, 'q'}, {"flows", 1, NULL, 'f'}, {"mtu", 1, NULL, 'm'},
		{"vlan", 1, NULL, 'v'}, {"mib", 1, NULL, 's'}, {"passes", 1, NULL, 'p'},
		{"lose", 1, NULL, 'l'}, {"seed", 1, NULL, 'r'}, {"ip6", 0, NULL, '6'},
		{"copy", 0, NULL, 'c'}, {"deflate", 0, NULL, 'z'}, {"seal", 0, NULL, 'S'},
		{"capture", 0, NULL, 'C'}, {"cut", 1, NULL, 'u'}, {"dead", 1, NULL, 'e'},
		{"end", 1, NULL, 'E'}, {"barrier", 1, NULL, 'b'}, {NULL, 0, NULL, 0}};
	struct world_options o = {.device = "memif",
		.queues = 1,
		.flows = 1,
		.mtu = 9000,
		.mib = 64,
		.passes = 3,
		.seed = 1};
	const char *differs;
	struct world w;
	pid_t source, target;
	int opt, bad, capture = -1;
	bool capturing = false;

	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		unsigned n = optarg != NULL ? (unsigned)strtoul(optarg, NULL, 0) : 0;

		switch (opt) {
		case 'd':
			o.device = optarg;
			break;
		case 'q':
			o.queues = n;
			break;
		case 'f':
			o.flows = n;
			break;
		case 'm':
			o.mtu = n;
			break;
		case 'v':
			o.vlan = n;
			break;
		case 's':
			o.mib = n;
			break;
		case 'p':
			o.passes = n;
			break;
		case 'l':
			o.lose = n * 65536 / 1000;
			break;
		case 'r':
			o.seed = n;
			break;
		case '6':
			o.v6 = true;
			break;
		case 'c':
			o.copy = true;
			break;
		case 'z':
			o.deflate = true;
			break;
		case 'S':
			o.seal = true;
			break;
		case 'u':
			o.cut_ms = n;
			break;
		case 'C':
			capturing = true;
			break;
		case 'e':
			o.dead_ms = n;
			break;
		case 'b':
			o.barrier_ms = n;
			break;
		case 'E':
			o.end = strcmp(optarg, "cut") == 0           ? END_CUT
				: strcmp(optarg, "shrink") == 0      ? END_SHRINK
				: strcmp(optarg, "kill-source") == 0 ? END_KILL_SOURCE
								     : END_KILL_TARGET;
			break;
		default:
			return 2;
		}
	}
	if (o.flows == 0 || o.flows > WORLD_FLOWS)
		return 2;
	world_open(&w, &o);
	if (capturing)
		capture = world_capture(&w);
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
	if (capturing && !bad)
		world_read_capture(capture);
	return bad || differs != NULL;
}
