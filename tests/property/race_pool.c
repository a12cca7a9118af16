// SPDX-License-Identifier: BSD-3-Clause
// Threads on windows that are registered by turns: lanes look up keys, send with them and complete
// some while later, while control takes keys back and drops windows. From a lane's look-up to its
// completion no window may be dropped whose key it has. Built with the thread sanitizer (see
// ./check) a race ends it, too.
//
//   race_pool [DROPS]

#include "link_rdma_pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define LANES  2u
#define MOST   4u
#define CHUNKS (24 * LINK_RDMA_POOL_CHUNK)
#define FLYING 2048u // sends of a lane that have not completed
#define DROPS  20u
#define KEYS   (1u << 20)

static struct link_rdma_pool *pool;
static struct region_map map;
static _Atomic uint32_t front;     // chunk that lanes are at. control: wo
static _Atomic bool dropped[KEYS]; // by key, of which none is given twice
static _Atomic bool stop;
static _Atomic uint64_t direct;

static void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "race_pool: %s\n", what);
		abort();
	}
}

static void *lane(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	struct link_rdma_pool_seen seen = {0};
	uint64_t tail = 0, freed = 0, to;
	uint32_t flying[FLYING], rkey;

	while (!atomic_load(&stop)) {
		if (tail - freed == FLYING) {
			rkey = flying[freed++ % FLYING];
			must(rkey == 0 || !atomic_load(&dropped[rkey]),
				"a window was dropped with a write on its way");
		}
		rkey = 0;
		if (link_rdma_pool_key(pool, 0, atomic_load(&front), &to, &rkey))
			atomic_fetch_add(&direct, 1);
		else
			rkey = 0;
		flying[tail++ % FLYING] = rkey;
		if (tail % 128 == 0)
			sched_yield();
		link_rdma_pool_pass(pool, me, &seen, tail, freed);
	}
	return NULL;
}

// The target answers at once. Windows' keys are of its making.
static void turn(uint32_t *rkey_of, uint32_t *next)
{
	uint32_t at = atomic_load(&front);
	struct link_rdma_pool_ask ask;

	for (uint32_t c = at; c < CHUNKS; c += LINK_RDMA_POOL_CHUNK)
		if (!link_rdma_pool_near(pool, 0, c, LINK_RDMA_POOL_CHUNK))
			break;
	if (link_rdma_pool_turn(pool, &ask)) {
		for (unsigned i = 0; i < ask.ndrop; i++)
			atomic_store(&dropped[rkey_of[ask.drop[i]]], true);
		for (unsigned i = 0; i < ask.nwant; i++) {
			rkey_of[ask.want[i]] = ++*next;
			must(*next < KEYS &&
					link_rdma_pool_registered(pool, ask.want[i], *next) == 0,
				"a window that was asked for is refused");
		}
	}
	atomic_store(&front, (at + LINK_RDMA_POOL_CHUNK / 4) % CHUNKS);
}

int main(int argc, char **argv)
{
	uint64_t drops = argc > 1 ? strtoull(argv[1], NULL, 10) : DROPS;
	struct link_rdma_pool_plan plan = {
		.window_bytes = LINK_RDMA_POOL_CHUNK * CHUNK_BYTES, .most = MOST, .there = {true}};
	uint32_t rkey_of[CHUNKS / LINK_RDMA_POOL_CHUNK] = {0}, next = 0;
	pthread_t thread[LANES];
	struct err e;

	region_map_init(&map);
	must(region_add(&map, "ram", -1, CHUNKS * CHUNK_BYTES, PAGE_BYTES, &e) == 0 &&
			link_rdma_pool_new(&pool, &map, &plan, LANES, &e) == 0,
		"no pool");
	for (unsigned i = 0; i < LANES; i++)
		must(pthread_create(&thread[i], NULL, lane, (void *)(uintptr_t)i) == 0,
			"no thread");
	while (pool->counts.dropped < drops || atomic_load(&direct) < drops) {
		turn(rkey_of, &next);
		sched_yield();
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < LANES; i++)
		pthread_join(thread[i], NULL);
	printf("%llu windows dropped, %llu pages direct\n",
		(unsigned long long)pool->counts.dropped, (unsigned long long)atomic_load(&direct));
	link_rdma_pool_free(pool);
	return 0;
}
