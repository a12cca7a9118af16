// SPDX-License-Identifier: BSD-3-Clause
// Guest memory that a device may write, or read, by itself: registered and given back by a thread
// of its own, piece by piece, because both take as long as the memory is large. Run by the control
// loop, but for work().
//
// Invariants: no hole is registered: that would allocate it. At the target all of a region is
// there; at the source a piece is a run that was found populated, and its VMM gives none of it back
// meanwhile. What is registered stays mapped. A piece that is `there` stays so until the end is
// asked for, after all flows; by turns (link_rdma_turns.c) until the source drops it, which has
// taken back its key. The thread is joined by the host, once it has ended.

#include "link_rdma_memory.h"

#include "clock.h"
#include "link_rdma_end.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define PREFETCH_BYTES (UINT64_C(1) << 30) // in one request

enum { AT_WORK, REGISTERED, NOTHING }; // of state

static uint32_t pieces_of(const struct rdma_area *a)
{
	if (a->base == NULL)
		return 0;
	return (uint32_t)((a->bytes + a->window_bytes - 1) / a->window_bytes);
}

struct longest {
	uint64_t offset, bytes; // of the longest run
	uint64_t at, end;       // of the run under way
};

// Runs come in order, perhaps in pieces.
static int add_run(void *arg, uint64_t offset, uint64_t bytes)
{
	struct longest *l = arg;

	if (offset != l->end)
		l->at = offset;
	l->end = offset + bytes;
	if (l->end - l->at > l->bytes) {
		l->offset = l->at;
		l->bytes = l->end - l->at;
	}
	return 0;
}

// What a window has that can be registered. bytes is 0 where that is nothing.
static int find_run(const struct link_rdma_memory *m, const struct rdma_area *a, uint32_t window,
	struct rdma_piece *p)
{
	struct longest l = {.at = UINT64_MAX, .end = UINT64_MAX};
	int rc = m->walk(a->fd, window * a->window_bytes, p->bytes, add_run, &l);

	p->base = a->base + l.offset;
	p->bytes = l.bytes < RDMA_RUN_LEAST ? 0 : l.bytes;
	return rc;
}

// The device learns its pages ahead, and not one by one as it comes upon them. Only advice: where
// it is not taken nothing is lost but time.
static void prefetch(const struct link_rdma_memory *m, const struct rdma_piece *p)
{
	enum ibv_advise_mr_advice how = m->walk != NULL ? IBV_ADVISE_MR_ADVICE_PREFETCH
							: IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE;

	for (uint64_t at = 0; at < p->bytes; at += PREFETCH_BYTES) {
		uint64_t left = p->bytes - at;
		struct ibv_sge sge = {(uintptr_t)p->base + at,
			(uint32_t)(left < PREFETCH_BYTES ? left : PREFETCH_BYTES), p->mr->lkey};

		if (m->v->advise_mr(m->domain->pd, how, &sge) != 0)
			return;
	}
}

int rdma_memory_register(struct link_rdma_memory *m, struct rdma_piece *p)
{
	int access = m->walk != NULL ? 0 : IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE;

	if (m->on_demand)
		access |= IBV_ACCESS_ON_DEMAND;
	errno = 0;
	p->mr = m->v->reg_mr(m->domain->pd, p->base, p->bytes, access);
	if (p->mr == NULL)
		return errno != 0 ? -errno : -ENOMEM;
	if (m->on_demand)
		prefetch(m, p);
	m->now_bytes += p->bytes;
	if (m->now_bytes > atomic_load_explicit(&m->bytes, memory_order_relaxed))
		atomic_store_explicit(&m->bytes, m->now_bytes, memory_order_relaxed);
	/* release: pairs with the acquire of cores */
	atomic_store_explicit(&p->there, true, memory_order_release);
	return 0;
}

static int register_area(struct link_rdma_memory *m, const struct rdma_area *a)
{
	struct rdma_piece *p = &m->piece[a->first];
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < pieces_of(a); i++) {
		if (atomic_load_explicit(&m->stop, memory_order_relaxed))
			return 0;
		uint64_t offset = i * a->window_bytes, left = a->bytes - offset;

		p[i].base = a->base + offset;
		p[i].bytes = left < a->window_bytes ? left : a->window_bytes;
		if (m->walk != NULL)
			rc = find_run(m, a, i, &p[i]);
		if (rc == 0 && p[i].bytes > 0)
			rc = rdma_memory_register(m, &p[i]);
	}
	return rc;
}

// 1: all of it; 0: told to stop; -errno: one could not be.
static int register_all(struct link_rdma_memory *m)
{
	uint64_t began = clock_ns();
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < m->n; i++) {
		m->failed = i;
		rc = register_area(m, &m->area[i]);
		atomic_store_explicit(&m->ns, clock_ns() - began, memory_order_relaxed);
	}
	// What is not registered is copied: no reason to end.
	if (rc < 0 && m->walk != NULL) {
		atomic_store_explicit(&m->refused, -rc, memory_order_relaxed);
		rc = 0;
	}
	if (rc == 0 && !atomic_load_explicit(&m->stop, memory_order_relaxed))
		rc = 1;
	return rc;
}

void rdma_memory_deregister(struct link_rdma_memory *m, struct rdma_piece *p)
{
	atomic_store_explicit(&p->there, false, memory_order_relaxed);
	if (p->mr == NULL)
		return;
	m->v->dereg_mr(p->mr);
	p->mr = NULL;
	m->now_bytes -= p->bytes;
}

static void deregister_all(struct link_rdma_memory *m)
{
	uint64_t began = clock_ns();

	for (uint32_t i = 0; i < m->npieces; i++)
		rdma_memory_deregister(m, &m->piece[i]);
	atomic_fetch_add_explicit(&m->end_ns, clock_ns() - began, memory_order_relaxed);
}

static void *work(void *arg)
{
	struct link_rdma_memory *m = arg;
	int rc = m->turns.most > 0 ? 1 : register_all(m);

	/* release: pairs with the acquire in state_of() */
	if (rc == 1) {
		atomic_store_explicit(&m->state, REGISTERED, memory_order_release);
		if (m->turns.most > 0)
			rdma_turns_work(m);
		else
			rdma_memory_wait(&m->end);
	}
	deregister_all(m);
	atomic_store_explicit(&m->state, rc < 0 ? rc : NOTHING, memory_order_release);
	rdma_memory_wait(&m->leave);
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
	for (unsigned i = 0; i < m->n; i++)
		close_fd(&m->area[i].fd);
	sem_destroy(&m->end);
	sem_destroy(&m->leave);
	link_rdma_domain_free(m->domain);
	free(m->turns.job);
	free(m->piece);
	free(m);
}

// A source's are small, so that holes cost little. A target's are as large as the device takes
// them; where that is less than a region, a power of two, so that huge pages stay whole.
static uint64_t window_of(const struct link_rdma_memory *m, uint64_t bytes)
{
	const struct link_rdma_host *h = m->domain->host;
	uint64_t most = h->info.most_mr, window = CHUNK_BYTES;

	if (m->turns.most > 0)
		return m->turns.window_bytes;
	if (m->walk != NULL && most > RDMA_WINDOW_BYTES)
		most = RDMA_WINDOW_BYTES;
	else if (m->walk == NULL && bytes <= most)
		return bytes;
	while (window <= most / 2)
		window *= 2;
	return window;
}

static int look_at_regions(struct link_rdma_memory *m, const bool *which)
{
	for (unsigned i = 0; i < m->n; i++)
		m->area[i].fd = -1;
	for (unsigned i = 0; i < m->n; i++) {
		const struct region *r = &m->map->r[i];
		struct rdma_area *a = &m->area[i];

		if (which != NULL && !which[i])
			continue;
		a->base = r->base;
		a->bytes = r->bytes;
		a->window_bytes = window_of(m, r->bytes);
		a->window_chunks = (uint32_t)(a->window_bytes >> CHUNK_SHIFT);
		a->first = m->npieces;
		m->npieces += pieces_of(a);
		// The session may close its own meanwhile.
		if (m->walk != NULL)
			a->fd = fcntl(r->fd, F_DUPFD_CLOEXEC, 0);
		if (m->walk != NULL && a->fd < 0)
			return -errno;
	}
	m->piece = calloc(m->npieces + 1, sizeof(*m->piece));
	if (m->piece == NULL)
		return -ENOMEM;
	return m->turns.most > 0 ? rdma_turns_new(m) : 0;
}

int rdma_memory_new(struct link_rdma_memory **out, struct link_rdma_domain *domain,
	struct region_map *map, const bool *which, link_rdma_walk walk,
	const struct rdma_turns *turns, struct err *e)
{
	struct link_rdma_memory *m = calloc(1, sizeof(*m));
	sigset_t all, old;
	int rc;

	if (m == NULL)
		return err_set(e, ENOMEM, "rdma: no memory");
	m->domain = rdma_domain_use(domain);
	m->v = domain->host->v;
	m->on_demand = domain->host->cfg.on_demand;
	m->map = map;
	m->n = map->n;
	m->walk = walk;
	if (turns != NULL)
		m->turns = *turns;
	sem_init(&m->end, 0, 0);
	sem_init(&m->leave, 0, 0);
	rc = -look_at_regions(m, which);
	if (rc != 0) {
		drop(m);
		return err_sys(e, rc, "rdma: cannot look after the guest's memory");
	}
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
	LIST_INSERT_HEAD(&domain->host->memories, m, next);
	*out = m;
	return 0;
}

int link_rdma_memory_new(struct link_rdma_memory **out, struct link_rdma_domain *domain,
	struct region_map *map, const bool which[REGION_MAX], struct err *e)
{
	return rdma_memory_new(out, domain, map, which, NULL, NULL, e);
}

int link_rdma_memory_lend(struct link_rdma_memory **out, struct link_rdma_domain *domain,
	struct region_map *map, link_rdma_walk walk, struct err *e)
{
	return rdma_memory_new(out, domain, map, NULL, walk, NULL, e);
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

uint32_t link_rdma_memory_windows(
	const struct link_rdma_memory *m, unsigned region, uint64_t *window_bytes)
{
	*window_bytes = m->area[region].window_bytes;
	return pieces_of(&m->area[region]);
}

bool link_rdma_memory_key(
	const struct link_rdma_memory *m, unsigned region, uint32_t window, struct link_rdma_key *k)
{
	const struct rdma_area *a = &m->area[region];
	const struct ibv_mr *mr = window < pieces_of(a) ? m->piece[a->first + window].mr : NULL;

	*k = (struct link_rdma_key){0};
	if (mr != NULL)
		*k = (struct link_rdma_key){(uintptr_t)mr->addr, mr->rkey, true};
	return k->there;
}

void link_rdma_memory_figures(const struct link_rdma_memory *m, struct link_rdma_registered *r)
{
	*r = (struct link_rdma_registered){
		.bytes = atomic_load_explicit(&m->bytes, memory_order_relaxed),
		.register_ns = atomic_load_explicit(&m->ns, memory_order_relaxed),
		.deregister_ns = atomic_load_explicit(&m->end_ns, memory_order_relaxed),
		.refused = atomic_load_explicit(&m->refused, memory_order_relaxed)};
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
