// SPDX-License-Identifier: BSD-3-Clause
// Memory moves between two processes over a pair of DPDK devices, pass by pass, and is the same
// over there. Exits with 77 and the reason where this machine lacks something.
//
//   nic_move --device memif|vhost|packet [--queues N] [--flows N] [--mtu N] [--vlan N] [--mib N]
//            [--passes N] [--lose PERMILLE] [--ip6] [--copy] [--deflate] [--seed N]

#include "nic_world.h"

#include "clock.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int run_source(struct world *w)
{
	struct seed seed = {w->o.seed};
	struct world_side s;
	uint64_t t0;

	world_side_open(&s, w, true);
	for (uint32_t pass = 0; pass < w->o.passes; pass++) {
		world_scribble(&s, &seed, pass == 0);
		t0 = clock_ns();
		world_publish(&s, pass);
		world_wait_pass(&s, pass);
		printf("pass %u: %.1f ms\n", pass, (double)(clock_ns() - t0) / 1e6);
		if (dirty_put_back(&s.dirty, 0, s.dirty.nchunks) != 0)
			world_fail("pages were not acknowledged");
	}
	world_side_close(&s);
	return 0;
}

static int run_target(struct world *w)
{
	struct world_side s;

	world_side_open(&s, w, false);
	world_wait_pass(&s, w->o.passes - 1);
	world_side_close(&s);
	return 0;
}

// When one fails, the other would only wait for it.
static int wait_both(pid_t source, pid_t target)
{
	int bad = 0, status;

	for (unsigned i = 0; i < 2; i++) {
		pid_t pid = wait(&status);

		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
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
		{"copy", 0, NULL, 'c'}, {"deflate", 0, NULL, 'z'}, {NULL, 0, NULL, 0}};
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
	int opt, bad;

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
		default:
			return 2;
		}
	}
	if (o.flows == 0 || o.flows > WORLD_FLOWS)
		return 2;
	world_open(&w, &o);
	fflush(stdout);
	target = start(&w, false);
	source = start(&w, true);
	close(w.wire[0]);
	close(w.wire[1]);
	bad = wait_both(source, target);
	differs = bad ? NULL : world_differs(&w);
	if (differs != NULL)
		printf("%s\n", differs);
	world_close(&w);
	return bad || differs != NULL;
}
