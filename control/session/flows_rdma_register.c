// SPDX-License-Identifier: BSD-3-Clause
// The target's memory registered with its device, so that sources write pages to their place: all
// of it before a page comes, or by turns (flows_rdma_turns.c). Control loop only.

#include "session_impl.h"

#include <errno.h>

#define WINDOWS_MOST 4096u /* of the target's memory */

/* Whose pages come to their place by themselves. Registering a hole allocates it, so only memory
 * that was allocated for this guest: where a region kept what it held, all that the source does not
 * send is to be a hole, and while it is registered none can be made. */
bool flows_rdma_registers(const struct session *s, const struct region *r)
{
	return s->rdma.direct && s->populate && r->bytes > 0;
}

int flows_rdma_may_lock(struct session *s, struct err *e)
{
	const struct region_map *map = &s->vmm->map;
	uint64_t bytes = 0;

	s->rdma.turns.most = 0;
	for (unsigned i = 0; i < map->n && !s->rdma.info.on_demand; i++)
		bytes += flows_rdma_registers(s, &map->r[i]) ? map->r[i].bytes : 0;
	if (link_rdma_locked_check("", s->nflows, bytes, e) == 0 || flows_rdma_turns_fit(s))
		return 0;
	return -ENOMEM;
}

static void say_how(struct session *s)
{
	const struct region_map *map = &s->vmm->map;

	if (s->rdma.direct && !s->populate)
		watch_text(s, LOG_INFO,
			"rdma: pages go through slots: receive with --reserve populate, and they "
			"go right to their place");
	if (s->rdma.turns.most > 0) {
		watch_text(s, LOG_INFO,
			"rdma: this godwitd may not lock all of the guest (RLIMIT_MEMLOCK): %u "
			"windows of %llu MiB are registered at a time; others' pages go through "
			"slots",
			s->rdma.turns.most, (unsigned long long)s->rdma.turns.window_bytes >> 20);
		return;
	}
	for (unsigned i = 0; s->rdma.direct && s->populate && i < map->n; i++)
		if (map->r[i].bytes > s->rdma.info.most_mr)
			watch_text(s, LOG_INFO,
				"rdma: region %s of %llu MiB is registered in windows: device %s "
				"takes %llu MiB at a time",
				map->r[i].name, (unsigned long long)map->r[i].bytes >> 20,
				s->rdma.info.device,
				(unsigned long long)s->rdma.info.most_mr >> 20);
}

/* The keys of all go in one message. */
static int count_windows(const struct session *s, struct err *e)
{
	uint64_t n = 0, bytes;

	for (unsigned i = 0; i < s->vmm->map.n; i++)
		n += link_rdma_memory_windows(s->rdma.memory, i, &bytes);
	if (n <= WINDOWS_MOST)
		return 0;
	return err_set(e, ENOTSUP,
		"rdma: the guest's memory would be registered in %llu windows, %u are possible: "
		"give a larger rdma-window, or rdma-fabric untrusted",
		(unsigned long long)n, WINDOWS_MOST);
}

static int begin_register(struct session *s, struct err *e)
{
	struct region_map *map = &s->vmm->map;
	const struct session_turns *t = &s->rdma.turns;
	bool which[REGION_MAX] = {false}, any = false;

	for (unsigned i = 0; i < map->n; i++) {
		which[i] = flows_rdma_registers(s, &map->r[i]);
		any |= which[i];
	}
	/* Other sessions may have locked some since. */
	if (any && flows_rdma_may_lock(s, e) < 0)
		return -e->errnum;
	say_how(s);
	if (!any)
		return 1;
	if (s->host->rdma == NULL)
		return flows_rdma_removed_error(s, e);
	s->rdma.registering = true;
	if (t->most > 0)
		return link_rdma_memory_turns(&s->rdma.memory, s->rdma.domain, map, which,
			       t->window_bytes, t->most, e) < 0
			       ? -e->errnum
			       : 0;
	if (link_rdma_memory_new(&s->rdma.memory, s->rdma.domain, map, which, e) < 0)
		return -e->errnum;
	return count_windows(s, e);
}

int flows_rdma_register(struct session *s, struct err *e)
{
	struct session_rdma *r = &s->rdma;
	int rc;

	if (!r->registering)
		return begin_register(s, e);
	rc = link_rdma_memory_ready(r->memory, e);
	if (rc == 0)
		return 0;
	r->registering = false;
	for (unsigned i = 0; rc > 0 && i < s->vmm->map.n; i++)
		if (flows_rdma_registers(s, &s->vmm->map.r[i]) && recv_job_pin(&s->recv, i, e) < 0)
			rc = -e->errnum;
	link_rdma_memory_figures(r->memory, &r->figures);
	return rc;
}

int flows_rdma_release(struct session *s, struct err *e)
{
	struct link_rdma_memory *m = s->rdma.memory;

	if (m != NULL) {
		link_rdma_memory_end(m);
		if (!link_rdma_memory_ended(m))
			return 0;
		link_rdma_memory_figures(m, &s->rdma.figures);
		link_rdma_memory_free(m);
		s->rdma.memory = NULL;
	}
	return recv_job_release(&s->recv, e);
}
