// SPDX-License-Identifier: BSD-3-Clause
// What each request of the daemon does. Run by the agent's thread, one request at a time. All of a
// request is checked here; the state is checked by the table before (agent_state.c), and moves only
// after what was asked has succeeded.

#include "agent.h"

#include "agent_state.h"
#include "clock.h"
#include "map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static size_t plane_bytes(const struct godwit *g)
{
	return g->map.nchunks * sizeof(uint64_t);
}

int agent_make_planes(struct godwit *g, struct err *e)
{
	struct agent_session *s = &g->session;
	size_t bytes = 2 * plane_bytes(g);
	void *p;

	s->planes_fd = memfd_create("godwit-planes", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (s->planes_fd < 0 || ftruncate(s->planes_fd, (off_t)bytes) < 0 ||
		fcntl(s->planes_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_sys(e, errno, "cannot make the planes");
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, s->planes_fd, 0);
	if (p == MAP_FAILED)
		return err_sys(e, errno, "cannot map the planes");
	s->out = p;
	s->in = s->out + g->map.nchunks;
	s->want = map_lazy(plane_bytes(g));
	return s->want != NULL ? 0 : err_set(e, ENOMEM, "out of memory for the planes");
}

void agent_drop_planes(struct godwit *g)
{
	struct agent_session *s = &g->session;

	if (s->out != NULL)
		munmap(s->out, 2 * plane_bytes(g));
	map_free(s->want, plane_bytes(g));
	s->out = s->in = s->want = NULL;
	close_fd(&s->planes_fd);
}

static int do_hello(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e)
{
	struct agent_hello h = {.nregions = g->map.n, .pid = (uint32_t)getpid()};
	struct source_info info;

	if (ask->a != AGENT_VERSION)
		return err_set(e, EPROTONOSUPPORT,
			"godwitd speaks agent protocol %llu, this VMM %u; use a godwitd and a "
			"libgodwit of one release",
			(unsigned long long)ask->a, AGENT_VERSION);
	if (g->session.out != NULL)
		return err_set(e, EPROTO, "hello was said already");
	if (agent_make_planes(g, e) < 0) {
		agent_drop_planes(g);
		return -e->errnum;
	}
	g->tracker->ops->info(g->tracker, &info);
	snprintf(h.name, sizeof(h.name), "%s", g->name);
	snprintf(h.tracker, sizeof(h.tracker), "%s", g->tracker->ops->name);
	snprintf(h.mode, sizeof(h.mode), "%s", info.mode);
	snprintf(h.hypervisor, sizeof(h.hypervisor), "%s",
		g->vm_fd >= 0 ? "kvm" : "none (software guest)");
	h.granule_bytes = info.granule_bytes;
	agent_put_hello(m, &h);
	m->a = (uint64_t)godwit_get_state(g);
	m->b = g->map.nchunks;
	m->fd = fcntl(g->session.planes_fd, F_DUPFD_CLOEXEC, 0);
	return m->fd >= 0 ? 0 : err_sys(e, errno, "cannot pass the planes");
}

static int do_region(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e)
{
	if (ask->a >= g->map.n)
		return err_set(e, EINVAL, "there is no region %llu", (unsigned long long)ask->a);
	agent_put_region(m, &g->map.r[ask->a]);
	m->fd = fcntl(g->map.r[ask->a].fd, F_DUPFD_CLOEXEC, 0);
	return m->fd >= 0 ? 0 : err_sys(e, errno, "cannot pass a RAM file");
}

static int do_track_start(
	struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e)
{
	struct source_info info;
	int rc;

	(void)ask;
	rc = agent_writers_begin(g, e);
	if (rc < 0)
		return rc;
	/* Each start does no harm where it runs already; after a stop that failed one of them may
	 * not. */
	rc = g->sources->ops->start(g->sources, e);
	if (rc < 0) {
		agent_writers_end(g);
		return rc;
	}
	if (g->ops->track != NULL) {
		rc = g->ops->track(g->opaque, 1);
		if (rc < 0) {
			g->sources->ops->stop(g->sources, NULL);
			agent_writers_end(g);
			return err_sys(e, -rc, "the VMM cannot make its vhost back ends log");
		}
	}
	g->tracking = true;
	g->sources->ops->info(g->sources, &info);
	m->a = info.starts_all_dirty;
	m->b = info.granule_bytes;
	return 0;
}

int agent_untrack(struct godwit *g, struct err *e)
{
	int rc;

	agent_end_free(g);
	if (!g->tracking)
		return 0;
	if (g->ops->track != NULL)
		(void)g->ops->track(g->opaque, 0); /* what is logged on is not asked for */
	rc = g->sources->ops->stop(g->sources, e);
	if (rc == 0) {
		g->tracking = false;
		agent_writers_end(g);
	}
	return rc;
}

static int do_track_stop(
	struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e)
{
	(void)ask;
	(void)m;
	return agent_untrack(g, e);
}

static int need_tracking(const struct godwit *g, struct err *e)
{
	return g->tracking ? 0 : err_set(e, EINVAL, "tracking is not on");
}

static int do_look(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e)
{
	uint64_t t0 = clock_ns();
	int64_t pages;

	if (need_tracking(g, e) < 0)
		return -e->errnum;
	pages = g->sources->ops->look(g->sources, g->session.out, ask->a == 1, e);
	if (pages < 0)
		return (int)pages;
	m->a = (uint64_t)pages;
	m->b = clock_ns() - t0;
	return 0;
}

/* Copies the IN words of a request's range: what the daemon does to them later changes nothing.
 * Bits past a region's end are dropped. */
static int take_want(struct godwit *g, const struct agent_msg *ask, struct err *e)
{
	if (need_tracking(g, e) < 0)
		return -e->errnum;
	if (ask->b == 0 || ask->a >= g->map.nchunks || ask->b > g->map.nchunks - ask->a)
		return err_set(e, EINVAL, "chunks [%llu, + %llu) are not all there",
			(unsigned long long)ask->a, (unsigned long long)ask->b);
	for (uint64_t c = ask->a; c < ask->a + ask->b; c++) {
		uint64_t w = __atomic_load_n(&g->session.in[c], __ATOMIC_RELAXED);

		if (g->session.want[c] != w)
			g->session.want[c] = w;
	}
	for (unsigned i = 0; i < g->map.n; i++) {
		const struct region *r = &g->map.r[i];
		uint64_t last = r->first_chunk + r->nchunks - 1;

		if (last - ask->a < ask->b)
			g->session.want[last] &= region_chunk_mask(r, r->nchunks - 1);
	}
	return 0;
}

static int do_arm(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e)
{
	int64_t pages;

	if (take_want(g, ask, e) < 0)
		return -e->errnum;
	pages = g->sources->ops->arm(
		g->sources, ask->a, ask->b, g->session.want + ask->a, g->session.out + ask->a, e);
	if (pages < 0)
		return (int)pages;
	m->a = (uint64_t)pages;
	return 0;
}

static int do_put_back(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e)
{
	(void)m;
	if (take_want(g, ask, e) < 0)
		return -e->errnum;
	g->sources->ops->put_back(g->sources, ask->a, ask->b, g->session.want + ask->a);
	return 0;
}

static int do_pause(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e)
{
	uint64_t t0 = clock_ns();
	int rc = g->ops->pause(g->opaque);

	(void)ask;
	m->b = clock_ns() - t0;
	return rc < 0 ? err_sys(e, -rc, "the VMM cannot pause the guest") : 0;
}

static int do_resume(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e)
{
	int rc = g->ops->resume(g->opaque);

	(void)ask;
	(void)m;
	return rc < 0 ? err_sys(e, -rc, "the VMM cannot resume the guest") : 0;
}

static int do_throttle(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e)
{
	int rc;

	(void)m;
	if (ask->a < 1 || ask->a > 100)
		return err_set(e, EINVAL, "vCPUs can have 1 to 100 percent of their time");
	if (g->ops->throttle == NULL)
		return err_set(e, ENOTSUP, "this VMM cannot throttle its vCPUs");
	rc = g->ops->throttle(g->opaque, (unsigned)ask->a);
	if (rc < 0)
		return err_sys(e, -rc, "the VMM cannot throttle its vCPUs");
	g->throttled = ask->a != 100;
	return 0;
}

static int do_save(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e)
{
	_cleanup_(close_fd) int fd = memfd_create("godwit-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct stat st;
	int rc;

	(void)ask;
	if (fd < 0)
		return err_sys(e, errno, "cannot make a file for device state");
	rc = g->ops->save(g->opaque, fd);
	if (rc < 0)
		return err_sys(e, -rc, "the VMM cannot save device state");
	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "cannot look at the device state");
	m->a = (uint64_t)st.st_size;
	m->fd = fd;
	fd = -1;
	return 0;
}

static int do_load(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e)
{
	struct stat st;
	int rc;

	(void)m;
	if (ask->fd < 0 || fstat(ask->fd, &st) < 0 || !S_ISREG(st.st_mode) ||
		(uint64_t)st.st_size < ask->a)
		return err_set(e, EINVAL, "device state of %llu bytes came without its file",
			(unsigned long long)ask->a);
	/* A VMM may map it; a file that is no memfd, or sealed already, can't be sealed. */
	fcntl(ask->fd, F_ADD_SEALS, F_SEAL_SHRINK);
	lseek(ask->fd, 0, SEEK_SET);
	rc = g->ops->load(g->opaque, ask->fd, ask->a);
	if (rc == 0)
		return 0;
	/* What was loaded before is overwritten in part: not fit to run. */
	atomic_store(&g->state, GODWIT_INCOMING);
	return err_sys(e, -rc, "the VMM cannot load device state");
}

static int do_nothing(struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e)
{
	(void)g;
	(void)ask;
	(void)m;
	(void)e;
	return 0;
}

static int (*const actions[AGENT_TYPES])(
	struct godwit *g, struct agent_msg *ask, struct agent_msg *m, struct err *e) = {
	[AGENT_HELLO] = do_hello,
	[AGENT_REGION] = do_region,
	[AGENT_TRACK_START] = do_track_start,
	[AGENT_TRACK_STOP] = do_track_stop,
	[AGENT_LOOK] = do_look,
	[AGENT_ARM] = do_arm,
	[AGENT_PUT_BACK] = do_put_back,
	[AGENT_PAUSE] = do_pause,
	[AGENT_RESUME] = do_resume,
	[AGENT_THROTTLE] = do_throttle,
	[AGENT_SAVE] = do_save,
	[AGENT_LOAD] = do_load,
	[AGENT_FENCE] = do_nothing, /* the state is all */
	[AGENT_END] = do_nothing,   /* answered first; agent_serve.c ends the guest */
	[AGENT_PING] = do_nothing,
	[AGENT_HINTS] = agent_do_hints,
	[AGENT_FREE] = agent_do_free,
	[AGENT_FREE_LOOK] = agent_do_free_look,
	[AGENT_BALLOON] = agent_do_balloon,
};

void agent_do(struct godwit *g, struct agent_msg *ask, struct agent_msg *m)
{
	enum godwit_state next = godwit_get_state(g);
	struct err e = {0};
	int rc = 0;

	m->status = 0;
	m->a = m->b = 0;
	m->body_bytes = 0;
	m->fd = -1;
	switch (agent_state_check(godwit_get_state(g), ask->type, ask->a, &next, &e)) {
	case AGENT_REFUSE:
		rc = -e.errnum;
		break;
	case AGENT_SAME:
		break;
	case AGENT_DO:
		rc = actions[ask->type](g, ask, m, &e);
		if (rc == 0)
			atomic_store(&g->state, (int)next);
		break;
	}
	if (rc == 0) {
		if (ask->type == AGENT_PING || ask->type == AGENT_LOAD)
			m->a = (uint64_t)godwit_get_state(g);
		return;
	}
	close_fd(&m->fd);
	m->status = rc;
	m->body_bytes = strlen(e.text);
	memcpy(m->body, e.text, m->body_bytes);
}
