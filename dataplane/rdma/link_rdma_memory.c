// SPDX-License-Identifier: BSD-3-Clause
// Guest memory that a device may write: registered by a helper thread, region by region, because
// that takes as long as the memory is large. Run by the control loop, but for work().
//
// Invariant: only regions whose memory is all there are registered: registering a hole allocates
// it.

#include "link_rdma_end.h"

#include "clock.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

struct link_rdma_memory {
	struct ibv_pd *pd;
	const struct region_map *map;
	bool which[REGION_MAX];
	struct ibv_mr *mr[REGION_MAX];
	pthread_t thread;
	bool started;
	uint64_t bytes, ns;
	unsigned failed; // region
	_Atomic bool stop;
	_Atomic int state; // 0: at work, 1: done, -errno. Written last
};

static void *work(void *arg)
{
	struct link_rdma_memory *m = arg;
	uint64_t began = clock_ns();
	int state = 1;

	for (unsigned i = 0; i < m->map->n && state == 1; i++) {
		const struct region *r = &m->map->r[i];

		if (!m->which[i] || atomic_load_explicit(&m->stop, memory_order_relaxed))
			continue;
		errno = 0;
		m->mr[i] = ibv_reg_mr(
			m->pd, r->base, r->bytes, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
		if (m->mr[i] != NULL)
			m->bytes += r->bytes;
		m->failed = i;
		if (m->mr[i] == NULL)
			state = errno != 0 ? -errno : -ENOMEM;
	}
	m->ns = clock_ns() - began;
	/* release: pairs with the acquire in link_rdma_memory_ready() */
	atomic_store_explicit(&m->state, state, memory_order_release);
	return NULL;
}

int link_rdma_memory_new(struct link_rdma_memory **out, struct link_rdma_host *h,
	const struct region_map *map, const bool which[REGION_MAX], struct err *e)
{
	struct link_rdma_memory *m = calloc(1, sizeof(*m));
	sigset_t all, old;
	int rc;

	if (m == NULL)
		return err_set(e, ENOMEM, "rdma: no memory");
	m->pd = h->pd;
	m->map = map;
	memcpy(m->which, which, sizeof(m->which));
	for (unsigned i = 0; i < map->n; i++)
		m->which[i] &= map->r[i].bytes <= h->info.most_mr;
	/* Signals are the control loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&m->thread, NULL, work, m);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0) {
		free(m);
		return err_sys(
			e, rc, "rdma: cannot start the thread that registers the guest's memory");
	}
	m->started = true;
	*out = m;
	return 0;
}

int link_rdma_memory_ready(struct link_rdma_memory *m, struct err *e)
{
	int state = atomic_load_explicit(&m->state, memory_order_acquire);
	const struct region *r = &m->map->r[m->failed];
	struct rlimit limit = {0};

	if (state >= 0)
		return state;
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
	const struct ibv_mr *mr = m->mr[region];

	*k = (struct link_rdma_key){0};
	if (mr != NULL)
		*k = (struct link_rdma_key){(uintptr_t)mr->addr, mr->rkey, true};
	return k->there;
}

void link_rdma_memory_figures(const struct link_rdma_memory *m, uint64_t *bytes, uint64_t *ns)
{
	*bytes = m->bytes;
	*ns = m->ns;
}

void link_rdma_memory_free(struct link_rdma_memory *m)
{
	if (m == NULL)
		return;
	atomic_store_explicit(&m->stop, true, memory_order_relaxed);
	if (m->started)
		pthread_join(m->thread, NULL);
	for (unsigned i = 0; i < REGION_MAX; i++)
		if (m->mr[i] != NULL)
			ibv_dereg_mr(m->mr[i]);
	free(m);
}
