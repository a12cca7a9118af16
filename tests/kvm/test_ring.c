// SPDX-License-Identifier: BSD-3-Clause
// One dirty ring against a kernel played in memory, which may stop its vCPU late, and write while
// the ring is harvested. No written page may be missing unless an overrun was told; a ring that is
// full with nothing in it must come free again.

#include "bits.h"
#include "ring.h"
#include "seed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE  64u
#define SOFT  (SIZE - SIZE / 4) /* where a kernel should stop its vCPU */
#define PAGES 512u
#define SLOT  3u

static struct kernel {
	struct seed seed;
	struct kvm_dirty_gfn e[SIZE];
	uint32_t dirty, reset;     /* as the kernel counts them */
	uint64_t open[PAGES / 64]; /* written since protected: not logged again */
	uint64_t owed[PAGES / 64]; /* written, and not told since */
	uint64_t told[PAGES / 64]; /* in this harvest: read after it, whatever was written */
	bool meanwhile;            /* writes go on during a harvest */
} k;

static void write_page(uint32_t p)
{
	bits_set(k.owed, p);
	if (bits_test(k.open, p))
		return;
	bits_set(k.open, p);
	k.e[k.dirty % SIZE] = (struct kvm_dirty_gfn){KVM_DIRTY_GFN_F_DIRTY, SLOT, p};
	k.dirty++;
}

static void write_some(uint32_t most)
{
	for (uint64_t n = seed_below(&k.seed, most + 1); n > 0; n--)
		write_page((uint32_t)seed_below(&k.seed, PAGES));
}

static void found(void *arg, uint32_t slot, uint64_t page)
{
	(void)arg;
	if (slot != SLOT || page >= PAGES)
		abort();
	bits_set(k.told, page);
	if (k.meanwhile && seed_below(&k.seed, 8) == 0)
		write_some(4);
}

static int reset(void *arg)
{
	uint64_t stop = seed_below(&k.seed, 4) == 0 ? seed_below(&k.seed, 8) : SIZE * 4;
	int n = 0;

	(void)arg; /* stop: a signal came */
	for (; stop > 0 && (k.e[k.reset % SIZE].flags & KVM_DIRTY_GFN_F_RESET); stop--, n++) {
		struct kvm_dirty_gfn *e = &k.e[k.reset++ % SIZE];

		e->flags = 0;
		bits_clear(k.open, e->offset);
	}
	return n;
}

static const struct ring_io io = {found, reset, NULL};

/* The answer to an overrun: all is told, and protected again. */
static void all_again(void)
{
	memset(k.open, 0, sizeof(k.open));
	memset(k.owed, 0, sizeof(k.owed));
}

static int take(struct ring *r, bool full, bool *overran)
{
	int rc = (full ? ring_take_full : ring_take)(r, &io, overran);

	for (uint32_t w = 0; w < PAGES / 64; w++)
		k.owed[w] &= ~k.told[w];
	memset(k.told, 0, sizeof(k.told));
	return rc;
}

static bool run(uint64_t seed, uint64_t *overruns)
{
	struct ring r = {.e = k.e, .size = SIZE};
	uint32_t late;

	memset(&k, 0, sizeof(k));
	k.seed.state = seed;
	late = (uint32_t)seed_below(&k.seed, 4) * SIZE / 2;
	for (unsigned step = 0; step < 400; step++) {
		bool overran = false, full;
		unsigned stuck = 0;

		k.meanwhile = seed_below(&k.seed, 2);
		full = k.dirty - k.reset >= SOFT;
		if (!full)
			write_some(SIZE / 3 + late);
		do { /* KVM_RUN returns at once while the ring is full */
			if (take(&r, full, &overran) < 0)
				return false;
			full = k.dirty - k.reset >= SOFT;
		} while (full && ++stuck < 1000);
		if (full)
			return printf("it stays full\n") < 0;
		*overruns += overran;
		k.meanwhile = false;
		if (overran)
			all_again();
		if (take(&r, false, &overran) < 0)
			return false;
		if (overran)
			all_again();
		for (uint32_t w = 0; w < PAGES / 64; w++)
			if (k.owed[w] != 0)
				return printf("step %u: a page is missing\n", step) < 0;
	}
	return true;
}

int main(void)
{
	uint64_t overruns = 0;

	for (uint64_t seed = 1; seed <= 2000; seed++)
		if (!run(seed, &overruns)) {
			printf("seed %llu\n", (unsigned long long)seed);
			return 1;
		}
	printf("2000 seeds, %llu overruns\n", (unsigned long long)overruns);
	return overruns == 0;
}
