// SPDX-License-Identifier: BSD-3-Clause
// Property test: over many seeds, a migrated guest's memory is the same at the target, whatever the
// guest wrote and the wire did meanwhile. Built with planted bugs (test_laws_plant) it demands that
// each of them makes some seed fail: the proof that the test would notice.
//
//   test_laws [SECONDS]        seeds from 1 on for so long
//   test_laws --seed N         that seed only
//   test_laws_plant [SECONDS]  no bug, then each of them

#include "move.h"
#include "plant.h"

#include "clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECONDS     8u
#define SEEDS_LEAST 50u   // however slow the machine
#define SEEDS_MOST  5000u // however fast
#define PLANT_SEEDS 400u  // a planted bug must show in so many

static char why[512];

static int run_seeds(unsigned seconds, unsigned most)
{
	uint64_t end = clock_ns() + seconds * NS_PER_S;
	struct move_facts f = {0};
	uint64_t seed = 0;

	while (seed < most && (seed < SEEDS_LEAST || clock_ns() < end))
		if (!move_run(++seed, &f, why, sizeof(why))) {
			printf("FAILED: %s\nrepeat it with: --seed %" PRIu64 "\n", why, seed);
			return 1;
		}
	printf("%" PRIu64 " seeds: %" PRIu64 " passes, %" PRIu64 " guest writes, %" PRIu64
	       " frames, %" PRIu64 " pages; frames torn %" PRIu64 ", stale %" PRIu64
	       ", twice %" PRIu64 "; pages lost %" PRIu64 ", new holes %" PRIu64
	       "; left out: free %" PRIu64 ", balloon %" PRIu64 "; old memory kept %" PRIu64 "\n",
		seed, f.passes, f.writes, f.frames, f.pages, f.torn, f.stale, f.twice, f.lost,
		f.holes, f.free, f.balloon, f.kept);
	if (f.torn == 0 || f.stale == 0 || f.twice == 0 || f.lost == 0 || f.holes == 0 ||
		f.free == 0 || f.balloon == 0 || f.kept == 0) {
		printf("FAILED: one of these never happened, so nothing was tested\n");
		return 1;
	}
	return 0;
}

#ifdef GODWIT_PLANT
static const struct {
	enum plant plant;
	const char *name;
} plants[] = {
	{PLANT_LAW1_READ_BEFORE_ARM, "law 1: read before arm"},
	{PLANT_LAW1_FORGET_TAKEN, "law 1: forget what was taken"},
	{PLANT_LAW3_ARMED_TOO, "law 3: leave out what is being armed"},
	{PLANT_LAW4_NEED_NOT_TELL, "law 4: a guest that need not tell"},
	{PLANT_LAW5_PLACE_STALE, "law 5: place a stale frame"},
	{PLANT_LAW5_PLACE_TWICE, "law 5: place a frame twice"},
	{PLANT_LAW10_PLACE_TORN, "law 10: place a torn frame"},
	{PLANT_LAW10_FORGET_TORN, "law 10: forget a torn frame"},
	{PLANT_LAW11_NO_NEW_HOLES, "law 11: send no new holes"},
	{PLANT_LAW11_STALE_FILE, "law 11: keep the target's old content"},
};

static int run_plants(void)
{
	int missed = 0;

	for (size_t i = 0; i < sizeof(plants) / sizeof(plants[0]); i++) {
		struct move_facts f = {0};
		uint64_t seed = 0;
		bool good = true;

		plant_active = plants[i].plant;
		while (good && seed < PLANT_SEEDS)
			good = move_run(++seed, &f, why, sizeof(why));
		if (good) {
			printf("FAILED: %s: not noticed in %u seeds\n", plants[i].name,
				PLANT_SEEDS);
			missed++;
		} else {
			printf("%s: noticed by seed %" PRIu64 ": %s\n", plants[i].name, seed, why);
			/* Only with the bug. */
			plant_active = PLANT_NONE;
			if (!move_run(seed, &f, why, sizeof(why))) {
				printf("FAILED: seed %" PRIu64 " without it: %s\n", seed, why);
				missed++;
			}
		}
		fflush(stdout);
	}
	plant_active = PLANT_NONE;
	return missed > 0;
}
#else
static int run_plants(void)
{
	return 0;
}
#endif

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "--seed") == 0) {
		struct move_facts f = {0};
		bool good = move_run(strtoull(argv[2], NULL, 0), &f, why, sizeof(why));

		printf("%s\n", good ? "the same" : why);
		return good ? 0 : 1;
	}
	if (run_seeds(argc > 1 ? (unsigned)atoi(argv[1]) : SECONDS, SEEDS_MOST) != 0)
		return 1;
	return run_plants();
}
