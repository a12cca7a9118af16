// SPDX-License-Identifier: BSD-3-Clause
// libgodwit's public functions: build a guest up, start the agent's thread, take it down. Run by
// the VMM's threads. No globals, no logs, no signals: a library in somebody else's process.

#include "agent.h"

#include "source_set.h"
#include "vhost_log.h"
#include "vmm_writes.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int tell(char *why, size_t why_bytes, const struct err *e)
{
	if (why != NULL && why_bytes > 0)
		snprintf(why, why_bytes, "%s", e->text);
	return -e->errnum;
}

static int check_config(const struct godwit_config *c, struct err *e)
{
	const struct godwit_ops *o = c->ops;

	if (c->api_version != GODWIT_API_VERSION)
		return err_set(e, EINVAL,
			"the VMM was built for version %u of libgodwit's interface, this is %u",
			c->api_version, GODWIT_API_VERSION);
	if (c->name == NULL || c->name[0] == '\0' || strlen(c->name) > 63)
		return err_set(e, EINVAL, "the guest's name must have 1 to 63 characters");
	if (c->socket == NULL || c->socket[0] == '\0' || strlen(c->socket) > 107)
		return err_set(e, EINVAL, "the socket's path must have 1 to 107 characters");
	if (o == NULL || !o->pause || !o->resume || !o->save || !o->load || !o->end)
		return err_set(e, EINVAL, "a callback other than throttle is missing");
	if (c->tracker == GODWIT_TRACK_KVM_LOG && c->vm_fd < 0)
		return err_set(e, EINVAL, "the tracker kvm-log needs the KVM VM fd");
	if (c->tracker == GODWIT_TRACK_KVM_RING && (c->vm_fd < 0 || c->ring_bytes == 0))
		return err_set(e, EINVAL,
			"the tracker kvm-ring needs the KVM VM fd and the size of its rings");
	return 0;
}

struct godwit *godwit_new(const struct godwit_config *c, char *why, size_t why_bytes)
{
	struct godwit *g = NULL;
	struct err e = {0};

	if (check_config(c, &e) == 0) {
		g = calloc(1, sizeof(*g));
		if (g == NULL)
			err_set(&e, ENOMEM, "out of memory");
	}
	if (g == NULL) {
		errno = -tell(why, why_bytes, &e);
		return NULL;
	}
	snprintf(g->name, sizeof(g->name), "%s", c->name);
	snprintf(g->path, sizeof(g->path), "%s", c->socket);
	g->vm_fd = c->vm_fd;
	g->tracker_kind = c->tracker;
	g->vcpus.ring_bytes = c->ring_bytes;
	g->ops = c->ops;
	g->opaque = c->opaque;
	region_map_init(&g->map);
	atomic_init(&g->state, c->incoming ? GODWIT_INCOMING : GODWIT_RUNNING);
	atomic_init(&g->writes, NULL);
	pthread_mutex_init(&g->writers.lock, NULL);
	g->hints_fd = -1;
	g->listen = g->stop = g->session.sock = g->session.planes_fd = -1;
	for (unsigned i = 0; i < AGENT_WAITING; i++)
		g->waiting[i] = -1;
	return g;
}

int godwit_add_region(
	struct godwit *g, const char *name, int fd, uint64_t bytes, void *base, uint32_t page_bytes)
{
	struct stat st;
	int own, rc;

	if (g->started)
		return -EBUSY;
	if (base == NULL || fstat(fd, &st) < 0 || (uint64_t)st.st_size < bytes)
		return -EINVAL;
	own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0)
		return -errno;
	rc = region_add(&g->map, name, own, bytes, page_bytes, NULL);
	if (rc < 0) {
		close(own);
		return rc;
	}
	/* The daemon maps it: a VMM that shrinks it would kill it. What is no memfd, or was made
	 * without leave to seal, stays as it is; the daemon survives that too, but the guest's
	 * migration does not. */
	fcntl(own, F_ADD_SEALS, F_SEAL_SHRINK);
	g->map.r[rc].base = base;
	return rc;
}

int godwit_add_view(struct godwit *g, int region, uint32_t slot, uint32_t as_id, uint64_t gpa,
	uint64_t offset, uint64_t bytes, uint32_t flags)
{
	struct view v = {gpa, offset, bytes, slot, as_id};
	struct region *r;
	int rc;

	if (g->started)
		return -EBUSY;
	if (region < 0 || (unsigned)region >= g->map.n || slot > 0xffff || as_id > 0xffff)
		return -EINVAL;
	r = &g->map.r[region];
	rc = region_add_view(r, &v, NULL);
	if (rc == 0)
		g->flags[region][r->nviews - 1] = flags;
	return rc;
}

int godwit_add_vcpu(struct godwit *g, int vcpu_fd)
{
	uint32_t n = g->vcpus.n;

	if (vcpu_fd < 0)
		return -EINVAL;
	if (n == RING_VCPUS)
		return -ENOSPC;
	g->vcpus.fd[n] = vcpu_fd;
	/* release: pairs with the source's load of n */
	__atomic_store_n(&g->vcpus.n, n + 1, __ATOMIC_RELEASE);
	return (int)n;
}

int godwit_ring_full(struct godwit *g, int vcpu)
{
	if (g->tracker == NULL || g->tracker_kind != GODWIT_TRACK_KVM_RING || vcpu < 0)
		return -EINVAL;
	return kvm_ring_full(g->tracker, (unsigned)vcpu);
}

static const struct source_ops *tracker_ops(const struct godwit *g)
{
	switch (g->tracker_kind) {
	case GODWIT_TRACK_KVM_LOG:
		return &source_kvm_log;
	case GODWIT_TRACK_KVM_RING:
		return &source_kvm_ring;
	case GODWIT_TRACK_PAGEMAP_SCAN:
		return &source_pagemap_scan;
	default:
		return g->vm_fd >= 0 ? &source_kvm_log : &source_pagemap_scan;
	}
}

/* Opens one source and adds it to the set. */
static int open_source(struct godwit *g, struct source **at, const struct source_ops *ops,
	const struct source_config *c, struct err *e)
{
	int rc = ops->open(at, c, e);

	return rc < 0 ? rc : source_set_add(g->sources, *at);
}

static void close_sources(struct godwit *g)
{
	if (g->sources != NULL)
		source_set.close(g->sources);
	g->sources = g->tracker = g->vhost = NULL;
	agent_drop_hints(g);
	free(g->slot_flags);
	g->slot_flags = NULL;
}

static int open_sources(struct godwit *g, struct err *e)
{
	struct source_config c = {.map = &g->map, .vm_fd = g->vm_fd, .vcpus = &g->vcpus};
	struct source *writes = NULL;
	unsigned n = 0;
	int rc;

	if (g->sources != NULL)
		return 0; /* a start before this one got so far; they may be in use by now */
	g->sources = source_set_new(g->map.nchunks);
	g->slot_flags = calloc(REGION_MAX * REGION_VIEWS, sizeof(*g->slot_flags));
	if (g->slot_flags == NULL || g->sources == NULL) {
		close_sources(g);
		return err_set(e, ENOMEM, "out of memory");
	}
	for (unsigned i = 0; i < g->map.n; i++)
		for (unsigned j = 0; j < g->map.r[i].nviews; j++)
			g->slot_flags[n++] = g->flags[i][j];
	c.slot_flags = g->slot_flags;
	/* The tracker first: its granule may be large, and what it brings up is armed in all. */
	rc = open_source(g, &g->tracker, tracker_ops(g), &c, e);
	if (rc == 0)
		rc = open_source(g, &writes, &source_vmm_writes, &c, e);
	if (rc == 0 && g->ops->track != NULL)
		rc = open_source(g, &g->vhost, &source_vhost_log, &c, e);
	if (rc == 0)
		rc = agent_make_hints(g, e);
	if (rc == 0)
		atomic_store(&g->writes, writes);
	else
		close_sources(g);
	return rc;
}

/* Signals are the VMM's business: the thread takes none. */
static int make_thread(struct godwit *g, struct err *e)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&g->thread, NULL, agent_thread, g);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
		return err_sys(e, rc, "cannot make a thread");
	pthread_setname_np(g->thread, "godwit-agent");
	g->started = true;
	return 0;
}

int godwit_start(struct godwit *g, char *why, size_t why_bytes)
{
	struct err e = {0};

	if (g->started) {
		err_set(&e, EBUSY, "the guest %s was started already", g->name);
		return tell(why, why_bytes, &e);
	}
	if (g->map.n == 0)
		err_set(&e, EINVAL, "the guest %s has no memory", g->name);
	else if (open_sources(g, &e) == 0 && agent_listen(g, &e) == 0) {
		if (g->stop < 0)
			g->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (g->stop < 0)
			err_sys(&e, errno, "cannot make an eventfd");
		else if (make_thread(g, &e) == 0)
			return 0;
		agent_unlisten(g);
	}
	return tell(why, why_bytes, &e);
}

void godwit_wrote(struct godwit *g, int region, uint64_t offset, uint64_t bytes)
{
	struct source *writes = atomic_load_explicit(&g->writes, memory_order_acquire);
	const struct region *r;
	uint64_t end;

	if (writes == NULL || region < 0 || (unsigned)region >= g->map.n)
		return;
	r = &g->map.r[region];
	if (bytes == 0 || offset >= r->bytes)
		return;
	end = bytes < r->bytes - offset ? offset + bytes : r->bytes;
	offset >>= PAGE_SHIFT;
	end = (end + PAGE_BYTES - 1) >> PAGE_SHIFT;
	vmm_writes_mark(writes, r->first_chunk * CHUNK_PAGES + offset, end - offset);
}

int godwit_vhost_log(struct godwit *g, uint64_t *bytes, void **base)
{
	return g->vhost != NULL ? vhost_log_area(g->vhost, bytes, base) : -ENOENT;
}

enum godwit_state godwit_get_state(const struct godwit *g)
{
	return (enum godwit_state)atomic_load(&g->state);
}

void godwit_free(struct godwit *g)
{
	if (g == NULL)
		return;
	if (g->started) {
		eventfd_write(g->stop, 1);
		pthread_join(g->thread, NULL);
	}
	atomic_store(&g->writes, NULL);
	close_sources(g);
	/* The mappings are the VMM's. */
	for (unsigned i = 0; i < g->map.n; i++)
		g->map.r[i].base = NULL;
	region_map_close(&g->map);
	close_fd(&g->stop);
	free(g);
}
