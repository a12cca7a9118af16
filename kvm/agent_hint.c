// SPDX-License-Identifier: BSD-3-Clause
// Hints in libgodwit: what the VMM tells of the balloon and of free pages, and what the daemon asks
// of them. godwit_* run on any thread of the VMM, once godwit_start has returned 0; the rest on the
// agent's thread.

#include "agent.h"

#include "plant.h"
#include "vmm_writes.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t hints_bytes(const struct godwit *g)
{
	return 2 * g->map.nchunks * sizeof(uint64_t);
}

int agent_make_hints(struct godwit *g, struct err *e)
{
	void *p;

	g->hints_fd = memfd_create("godwit-hints", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (g->hints_fd < 0 || ftruncate(g->hints_fd, (off_t)hints_bytes(g)) < 0 ||
		fcntl(g->hints_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_sys(e, errno, "cannot make the planes of hints");
	p = mmap(NULL, hints_bytes(g), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
		g->hints_fd, 0);
	if (p == MAP_FAILED)
		return err_sys(e, errno, "cannot map the planes of hints");
	g->hints = p;
	if (free_page_init(&g->free_page, &g->map) < 0)
		return err_set(e, ENOMEM, "out of memory for the reports of free pages");
	balloon_init(&g->balloon, &g->map, g->hints);
	return 0;
}

void agent_drop_hints(struct godwit *g)
{
	free_page_fini(&g->free_page);
	if (g->hints != NULL)
		munmap(g->hints, hints_bytes(g));
	g->hints = NULL;
	close_fd(&g->hints_fd);
}

/* Between a report, the look after it, and the arming asked for behind that there is little time. A
 * planted bug in the daemon shows when it is longer; a daemon that keeps the law does not care. */
static void take_time(void)
{
	if (plant(PLANT_LAW3_ARMED_TOO))
		usleep(20000);
}

/* A page that leaves the balloon is dirty. */
static void on_leave(void *arg, uint64_t page, uint64_t n)
{
	struct source *writes =
		atomic_load_explicit(&((struct godwit *)arg)->writes, memory_order_acquire);

	if (writes != NULL)
		vmm_writes_mark(writes, page, n);
}

void godwit_balloon(struct godwit *g, int must_tell)
{
	if (g->hints != NULL)
		balloon_set(&g->balloon, must_tell != 0, on_leave, g);
}

int godwit_inflate(struct godwit *g, uint64_t pfn, uint64_t n)
{
	return g->hints != NULL ? balloon_inflate(&g->balloon, pfn, n) : -EINVAL;
}

int godwit_deflate(struct godwit *g, uint64_t pfn, uint64_t n)
{
	return g->hints != NULL ? balloon_deflate(&g->balloon, pfn, n, on_leave, g) : -EINVAL;
}

void godwit_poison(struct godwit *g, uint32_t value)
{
	if (g->hints != NULL)
		free_page_poison(&g->free_page, value);
}

int godwit_free_pages(struct godwit *g, uint32_t id, uint64_t pfn, uint64_t n)
{
	return g->hints != NULL ? free_page_report(&g->free_page, id, pfn, n) : -EINVAL;
}

int godwit_free_end(struct godwit *g, uint32_t id)
{
	return g->hints != NULL ? free_page_end(&g->free_page, id) : -EINVAL;
}

int godwit_keeps_memory(struct godwit *g)
{
	if (g->started)
		return -EBUSY;
	g->keeps = true;
	return 0;
}

int agent_do_hints(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e)
{
	(void)ask;
	if (atomic_load(&g->balloon.must_tell))
		m->a |= AGENT_HINT_BALLOON;
	if (g->ops->free_request != NULL && free_page_usable(&g->free_page))
		m->a |= AGENT_HINT_FREE;
	if (g->keeps && !atomic_load(&g->balloon.must_tell))
		m->a |= AGENT_HINT_KEEPS;
	m->fd = fcntl(g->hints_fd, F_DUPFD_CLOEXEC, 0);
	return m->fd >= 0 ? 0 : err_sys(e, errno, "cannot pass the planes of hints");
}

int agent_do_free(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e)
{
	uint32_t id = (uint32_t)ask->a;
	int rc;

	(void)m;
	if (g->ops->free_request == NULL || ask->a > UINT32_MAX)
		return err_set(e, ENOTSUP, "this VMM asks its guest for no free pages");
	if (id != 0 && !free_page_usable(&g->free_page))
		return err_set(e, EPERM, "the guest relies on what its free pages hold");
	free_page_request(&g->free_page, id);
	g->free_asked = id != 0;
	rc = g->ops->free_request(g->opaque, id);
	return rc < 0 ? err_sys(e, -rc, "the VMM cannot ask its guest for free pages") : 0;
}

void agent_end_free(struct godwit *g)
{
	if (!g->free_asked)
		return;
	g->free_asked = false;
	free_page_request(&g->free_page, 0);
	(void)g->ops->free_request(g->opaque, 0);
}

int agent_do_free_look(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e)
{
	uint64_t *plane = g->hints + g->map.nchunks;
	bool ended = false;
	int64_t pages;

	if (!g->tracking)
		return err_set(e, EINVAL, "tracking is not on");
	take_time();
	/* Law 3: the reports first, the look after them. A page that was written since it was
	 * reported is in the look's words. */
	pages = free_page_take(&g->free_page, (uint32_t)ask->a, plane, &ended);
	if (pages == -ESTALE)
		return err_set(e, ESTALE, "there is no request for free pages with that id");
	if (pages < 0)
		pages = 0; /* poisoned since */
	m->a = (uint64_t)pages;
	m->b = ended;
	if (pages == 0)
		return 0;
	pages = g->sources->ops->look(g->sources, g->session.out, false, e);
	take_time();
	return pages < 0 ? (int)pages : 0;
}

int agent_do_balloon(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e)
{
	(void)m;
	if (ask->b == 0 || ask->a >= g->map.nchunks || ask->b > g->map.nchunks - ask->a)
		return err_set(e, EINVAL, "chunks [%llu, + %llu) are not all there",
			(unsigned long long)ask->a, (unsigned long long)ask->b);
	for (uint64_t c = ask->a; c < ask->a + ask->b; c++) {
		const struct region *r = region_of_chunk(&g->map, c);
		uint64_t w = __atomic_load_n(&g->session.in[c], __ATOMIC_RELAXED);

		balloon_take_over(&g->balloon, c, w & region_chunk_mask(r, c - r->first_chunk));
	}
	return 0;
}
