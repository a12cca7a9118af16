// SPDX-License-Identifier: BSD-3-Clause
// Guest memory that a device may write: registered and given back by a thread of its own, region by
// region, because both take as long as the memory is large. Run by the control loop, but for
// work().
//
// Invariants: only regions whose memory is all there are registered: registering a hole allocates
// it. What is registered stays mapped. The thread is joined by the host, once it has ended.

#include "link_rdma_end.h"

#include "clock.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { AT_WORK, REGISTERED, NOTHING }; // of state

struct area {
	uint8_t *base; // NULL: not to be registered
	uint64_t bytes;
	struct ibv_mr *mr;
};

struct link_rdma_memory {
	LIST_ENTRY(link_rdma_memory) next;
	struct link_rdma_host *host;
	struct region_map *map; // not for the thread
	struct area area[REGION_MAX];
	unsigned n;
	pthread_t thread;
	sem_t end, leave; // nothing is to be registered; and nobody asks any more
	bool ending;
	bool mine;       // the mappings. control: wo, before leave is posted
	unsigned failed; // region
	struct link_rdma_registered figures;
	_Atomic bool stop;  // control: wo
	_Atomic int state;  // or -errno: then nothing is registered. thread: wo, after the rest
	_Atomic bool ended; // thread: wo, the last that it does
};

// 1: all of it; 0: told to stop; -errno: one could not be.
static int register_all(struct link_rdma_memory *m)
{
	for (unsigned i = 0; i < m->n; i++) {
		struct area *a = &m->area[i];

		if (atomic_load_explicit(&m->stop, memory_order_relaxed))
			return 0;
		if (a->base == NULL)
			continue;
		m->failed = i;
		errno = 0;
		a->mr = m->host->v->reg_mr(m->host->pd, a->base, a->bytes,
			IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
		if (a->mr == NULL)
			return errno != 0 ? -errno : -ENOMEM;
		m->figures.bytes += a->bytes;
	}
	return 1;
}

static void deregister_all(struct link_rdma_memory *m)
{
	uint64_t began = clock_ns();

	for (unsigned i = 0; i < m->n; i++) {
		if (m->area[i].mr != NULL)
			m->host->v->dereg_mr(m->area[i].mr);
		m->area[i].mr = NULL;
	}
	m->figures.deregister_ns = clock_ns() - began;
}

static void wait_for(sem_t *s)
{
	while (sem_wait(s) != 0) // signals are not this thread's, but debuggers interrupt
		;
}

static void *work(void *arg)
{
	struct link_rdma_memory *m = arg;
	uint64_t began = clock_ns();
	int rc = register_all(m);

	m->figures.register_ns = clock_ns() - began;
	/* release: pairs with the acquire in state_of() */
	if (rc == 1) {
		atomic_store_explicit(&m->state, REGISTERED, memory_order_release);
		wait_for(&m->end);
	}
	deregister_all(m);
	atomic_store_explicit(&m->state, rc < 0 ? rc : NOTHING, memory_order_release);
	wait_for(&m->leave);
	for (unsigned i = 0; m->mine && i < m->n; i++)
		if (m->area[i].base != NULL)
			munmap(m->area[i].base, m->area[i].bytes);
	atomic_store_explicit(&m->ended, true, memory_order_release);
	return NULL;
}

static int state_of(const struct link_rdma_memory *m)
{
	return atomic_load_explicit(&m->state, memory_order_acquire);
}

static void drop(struct link_rdma_memory *m)
{
	sem_destroy(&m->end);
	sem_destroy(&m->leave);
	free(m);
}

int link_rdma_memory_new(struct link_rdma_memory **out, struct link_rdma_host *h,
	struct region_map *map, const bool which[REGION_MAX], struct err *e)
{
	struct link_rdma_memory *m = calloc(1, sizeof(*m));
	sigset_t all, old;
	int rc;

	if (m == NULL)
		return err_set(e, ENOMEM, "rdma: no memory");
	m->host = h;
	m->map = map;
	m->n = map->n;
	for (unsigned i = 0; i < map->n; i++)
		if (which[i])
			m->area[i] = (struct area){map->r[i].base, map->r[i].bytes, NULL};
	sem_init(&m->end, 0, 0);
	sem_init(&m->leave, 0, 0);
	/* Signals are the control loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&m->thread, NULL, work, m);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0) {
		drop(m);
		return err_sys(
			e, rc, "rdma: cannot start the thread that registers the guest's memory");
	}
	LIST_INSERT_HEAD(&h->memories, m, next);
	*out = m;
	return 0;
}

int link_rdma_memory_ready(const struct link_rdma_memory *m, struct err *e)
{
	const struct region *r;
	struct rlimit limit = {0};
	int state = state_of(m);

	if (state >= 0)
		return state == REGISTERED;
	r = &m->map->r[m->failed];
	(void)getrlimit(RLIMIT_MEMLOCK, &limit);
	if (state == -ENOMEM && limit.rlim_cur != RLIM_INFINITY)
		return err_set(e, ENOMEM,
			"rdma: region %s of %llu MiB can't be registered with the device: this "
			"process may lock %llu MiB (RLIMIT_MEMLOCK); raise LimitMEMLOCK= of the "
			"service, or leave rdma-fabric at untrusted",
			r->name, (unsigned long long)r->bytes >> 20,
			(unsigned long long)limit.rlim_cur >> 20);
	return err_sys(e, -state,
		"rdma: region %s of %llu MiB can't be registered with the device; leave "
		"rdma-fabric at untrusted, or see the kernel's log",
		r->name, (unsigned long long)r->bytes >> 20);
}

bool link_rdma_memory_key(
	const struct link_rdma_memory *m, unsigned region, struct link_rdma_key *k)
{
	const struct ibv_mr *mr = m->area[region].mr;

	*k = (struct link_rdma_key){0};
	if (mr != NULL)
		*k = (struct link_rdma_key){(uintptr_t)mr->addr, mr->rkey, true};
	return k->there;
}

void link_rdma_memory_figures(const struct link_rdma_memory *m, struct link_rdma_registered *r)
{
	*r = m->figures;
}

void link_rdma_memory_end(struct link_rdma_memory *m)
{
	if (m->ending)
		return;
	m->ending = true;
	atomic_store_explicit(&m->stop, true, memory_order_relaxed);
	sem_post(&m->end);
}

bool link_rdma_memory_ended(const struct link_rdma_memory *m)
{
	int state = state_of(m);

	return state < 0 || state == NOTHING;
}

void link_rdma_memory_free(struct link_rdma_memory *m)
{
	if (m == NULL)
		return;
	link_rdma_memory_end(m);
	m->mine = !link_rdma_memory_ended(m);
	for (unsigned i = 0; m->mine && i < m->n; i++)
		if (m->area[i].base != NULL)
			m->map->r[i].base = NULL;
	m->map = NULL;
	sem_post(&m->leave);
}

void rdma_memory_reap(struct link_rdma_host *h, bool wait)
{
	struct link_rdma_memory *m = LIST_FIRST(&h->memories), *next;

	for (; m != NULL; m = next) {
		next = LIST_NEXT(m, next);
		if (!wait && !atomic_load_explicit(&m->ended, memory_order_acquire))
			continue;
		/* A host that is closed by force has sessions that let go of nothing. */
		link_rdma_memory_end(m);
		sem_post(&m->leave);
		pthread_join(m->thread, NULL);
		LIST_REMOVE(m, next);
		drop(m);
	}
}
