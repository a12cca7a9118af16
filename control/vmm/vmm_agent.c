// SPDX-License-Identifier: BSD-3-Clause
// The VMM driver for a VMM that links libgodwit: asks over its socket, in order, and gives the
// answers to those who asked. Run by the control loop. All that comes from the VMM is checked; a
// VMM that answers badly, or not in time, is treated as gone.

#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

struct ask {
	STAILQ_ENTRY(ask) next;
	uint32_t seq;
	uint16_t type;
	vmm_fn done;
	void *arg;
};

struct vmm_agent {
	struct vmm vmm;
	int sock;
	struct event *readable, *deadline;
	struct timeval wait;
	STAILQ_HEAD(, ask) asks; /* sent, not answered, in order */
	uint32_t seq;
	bool in_callback; /* then close only marks, and the loop frees */
	bool closed;
	bool broken;
	struct err why; /* once broken */
	vmm_fn open_done;
	void *open_arg;
	unsigned regions_got;
};

static void agent_free(struct vmm_agent *va)
{
	struct vmm *v = &va->vmm;
	struct ask *q;

	while ((q = STAILQ_FIRST(&va->asks)) != NULL) {
		STAILQ_REMOVE_HEAD(&va->asks, next);
		free(q);
	}
	if (va->readable != NULL)
		event_free(va->readable);
	if (va->deadline != NULL)
		event_free(va->deadline);
	if (v->out != NULL)
		munmap(v->out, 2 * v->map.nchunks * sizeof(uint64_t));
	if (v->hints != NULL)
		munmap(v->hints, 2 * v->map.nchunks * sizeof(uint64_t));
	close_fd(&v->planes_fd);
	close_fd(&v->hints_fd);
	close_fd(&v->pidfd);
	region_map_close(&v->map);
	free(v->vcpus);
	close_fd(&va->sock);
	free(va);
}

static void agent_close(struct vmm *v)
{
	struct vmm_agent *va = (struct vmm_agent *)v;

	/* The socket closes now: the lease ends even if the memory is freed a little later. */
	event_del(va->readable);
	event_del(va->deadline);
	close_fd(&va->sock);
	va->closed = true;
	if (!va->in_callback)
		agent_free(va);
}

/* Calls back. False when the vmm is freed, then it must not be touched. */
static bool agent_call(struct vmm_agent *va, vmm_fn fn, void *arg, struct vmm_answer *a)
{
	bool nested = va->in_callback;

	va->in_callback = true;
	fn(arg, a);
	va->in_callback = nested;
	if (va->closed && !nested) {
		agent_free(va);
		return false;
	}
	return !va->closed;
}

static void set_deadline(struct vmm_agent *va)
{
	if (STAILQ_EMPTY(&va->asks))
		event_del(va->deadline);
	else
		event_add(va->deadline, &va->wait);
}

/* The VMM can't be spoken to any more: every request under way fails, then gone(). */
static void agent_broken(struct vmm_agent *va, const struct err *why)
{
	struct vmm *v = &va->vmm;
	struct ask *q;

	va->why = *why;
	va->broken = true;
	event_del(va->readable);
	event_del(va->deadline);
	while ((q = STAILQ_FIRST(&va->asks)) != NULL) {
		struct vmm_answer a = {.status = -EPIPE, .why = *why, .fd = -1};
		struct ask ask = *q;

		STAILQ_REMOVE_HEAD(&va->asks, next);
		free(q);
		if (!agent_call(va, ask.done, ask.arg, &a))
			return;
	}
	if (v->gone != NULL) {
		bool nested = va->in_callback;
		struct err copy = *why;

		va->in_callback = true;
		v->gone(v->gone_arg, &copy);
		va->in_callback = nested;
		if (va->closed && !nested)
			agent_free(va);
	}
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct vmm_agent *va = arg;
	struct err e;

	(void)fd;
	(void)what;
	if (va->broken) {
		/* Asked of a VMM that was gone already. */
		e = va->why;
	} else {
		err_set(&e, ETIMEDOUT,
			"the VMM %s (pid %u) did not answer request %u within %ld s; look at its "
			"state, it may be stopped or stuck",
			va->vmm.hello.name, va->vmm.hello.pid,
			STAILQ_EMPTY(&va->asks) ? 0 : STAILQ_FIRST(&va->asks)->type,
			(long)va->wait.tv_sec);
	}
	agent_broken(va, &e);
}

static void agent_ask(
	struct vmm *v, uint16_t type, uint64_t a, uint64_t b, int fd, vmm_fn done, void *arg)
{
	struct vmm_agent *va = (struct vmm_agent *)v;
	struct agent_msg m = {.type = type, .seq = ++va->seq, .a = a, .b = b, .fd = fd};
	struct ask *q = malloc(sizeof(*q));
	int rc = va->broken ? -EPIPE : agent_send(va->sock, &m);

	if (q == NULL)
		abort(); /* the event loop itself can't go on without memory */
	*q = (struct ask){.seq = m.seq, .type = type, .done = done, .arg = arg};
	STAILQ_INSERT_TAIL(&va->asks, q, next);
	if (rc < 0) {
		struct timeval now = {0, 0};

		if (!va->broken)
			err_sys(&va->why, -rc, "the VMM %s does not take requests",
				va->vmm.hello.name);
		va->broken = true;
		event_add(va->deadline, &now);
		return;
	}
	if (STAILQ_FIRST(&va->asks) == q)
		set_deadline(va);
}

static int check_answer(struct vmm_agent *va, const struct agent_msg *m, struct err *e)
{
	struct ask *q = STAILQ_FIRST(&va->asks);

	if (q == NULL || m->seq != q->seq || m->type != (q->type | AGENT_ANSWER))
		return err_set(e, EPROTO,
			"the VMM %s answered what was not asked (type %u, seq %u); its libgodwit "
			"does not fit",
			va->vmm.hello.name, m->type, m->seq);
	return 0;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct vmm_agent *va = arg;
	struct agent_msg m = {.fd = -1};
	struct vmm_answer a;
	struct ask ask, *q;
	struct err e;
	int rc;

	(void)what;
	rc = agent_recv(fd, &m, &e);
	if (rc == -EAGAIN)
		return;
	if (rc == -EPIPE)
		err_set(&e, EPIPE, "the VMM %s (pid %u) closed its socket: it has ended",
			va->vmm.hello.name, va->vmm.hello.pid);
	if (rc < 0 || check_answer(va, &m, &e) < 0) {
		close_fd(&m.fd);
		agent_broken(va, &e);
		return;
	}
	q = STAILQ_FIRST(&va->asks);
	ask = *q;
	STAILQ_REMOVE_HEAD(&va->asks, next);
	free(q);
	set_deadline(va);
	a = (struct vmm_answer){.status = m.status, .a = m.a, .b = m.b, .fd = m.fd};
	if (m.status < 0) {
		size_t n =
			m.body_bytes < sizeof(a.why.text) ? m.body_bytes : sizeof(a.why.text) - 1;

		close_fd(&a.fd);
		a.why.errnum = -m.status;
		memcpy(a.why.text, m.body, n);
		a.why.text[n] = '\0';
		if (n == 0)
			err_sys(&a.why, -m.status, "the VMM %s refused request %u",
				va->vmm.hello.name, ask.type);
	} else if (ask.type == AGENT_HELLO) {
		if (agent_get_hello(&m, &va->vmm.hello, &a.why) < 0)
			a.status = -EPROTO;
	} else if (ask.type == AGENT_REGION) {
		/* Takes the fd over. */
		if (agent_get_region(&m, &va->vmm.map, &a.why) < 0)
			a.status = -EPROTO;
		a.fd = -1;
	}
	/* Only these answers carry a file; whatever comes with another is not kept. */
	if (a.status < 0 ||
		(ask.type != AGENT_HELLO && ask.type != AGENT_SAVE && ask.type != AGENT_HINTS))
		close_fd(&a.fd);
	agent_call(va, ask.done, ask.arg, &a);
}

static void open_end(struct vmm_agent *va, struct vmm_answer *a)
{
	vmm_fn fn = va->open_done;

	va->open_done = NULL;
	fn(va->open_arg, a);
}

static int check_planes(const struct vmm *v, int fd, uint64_t nchunks, struct err *e)
{
	/* A plane that the VMM can shorten would be a SIGBUS in this process. Seals are asked for
	 * first: only memfds have them, other files could make the calls below wait. */
	int seals = fcntl(fd, F_GET_SEALS);
	off_t have = seals < 0 ? -1 : lseek(fd, 0, SEEK_END);
	struct statfs fs;

	if (have < 0 || fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC ||
		nchunks > REGION_TOTAL_MAX / CHUNK_BYTES + REGION_MAX ||
		(uint64_t)have < 2 * nchunks * sizeof(uint64_t) || (seals & F_SEAL_SHRINK) == 0)
		return err_set(e, EPROTO,
			"the VMM %s shares bitmaps that are too short or not sealed against "
			"shrinking; "
			"its libgodwit does not fit",
			v->hello.name);
	return 0;
}

/* Two planes that the VMM shares. NULL with e set. */
static uint64_t *map_planes(const struct vmm *v, int fd, struct err *e)
{
	void *p;

	if (check_planes(v, fd, v->map.nchunks, e) < 0)
		return NULL;
	p = mmap(NULL, 2 * v->map.nchunks * sizeof(uint64_t), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (p != MAP_FAILED)
		return p;
	err_sys(e, errno, "cannot map the bitmaps that the VMM %s shares", v->hello.name);
	return NULL;
}

static void on_hints(void *arg, struct vmm_answer *a)
{
	struct vmm_agent *va = arg;
	struct vmm *v = &va->vmm;

	if (a->status >= 0) {
		v->hint_flags = (unsigned)a->a;
		v->hints_fd = a->fd;
		a->fd = -1;
		v->hints = map_planes(v, v->hints_fd, &a->why);
		if (v->hints == NULL)
			a->status = -a->why.errnum;
	}
	if (a->status >= 0)
		vmm_find_vcpus(v);
	open_end(va, a);
}

static void on_region(void *arg, struct vmm_answer *a)
{
	struct vmm_agent *va = arg;
	struct vmm *v = &va->vmm;

	if (a->status < 0) {
		open_end(va, a);
		return;
	}
	if (++va->regions_got < v->hello.nregions) {
		vmm_ask(v, AGENT_REGION, va->regions_got, 0, -1, on_region, va);
		return;
	}
	/* Against the regions themselves, not against what HELLO claimed of them. */
	v->out = map_planes(v, v->planes_fd, &a->why);
	if (v->out == NULL) {
		a->status = -a->why.errnum;
		open_end(va, a);
		return;
	}
	v->in = v->out + v->map.nchunks;
	vmm_ask(v, AGENT_HINTS, 0, 0, -1, on_hints, va);
}

static void on_hello(void *arg, struct vmm_answer *a)
{
	struct vmm_agent *va = arg;
	struct vmm *v = &va->vmm;

	if (a->status >= 0) {
		v->state = (unsigned)a->a;
		v->planes_fd = a->fd;
		a->fd = -1;
		if (v->hello.nregions == 0 || v->hello.nregions > REGION_MAX)
			a->status = err_set(&a->why, EPROTO,
				"the VMM %s has %u RAM regions; 1 to %u "
				"are possible",
				v->hello.name, v->hello.nregions, REGION_MAX);
	}
	if (a->status < 0)
		open_end(va, a);
	else
		vmm_ask(v, AGENT_REGION, 0, 0, -1, on_region, va);
}

static const struct vmm_ops agent_ops = {"agent", agent_ask, agent_close};

int vmm_agent_open(struct vmm **v, struct event_base *base, const struct vmm_where *where,
	unsigned deadline_ms, vmm_fn done, void *done_arg, struct err *e)
{
	struct vmm_agent *va = calloc(1, sizeof(*va));
	struct ucred cred = {0};
	socklen_t len = sizeof(cred);

	if (va == NULL)
		return err_set(e, ENOMEM, "out of memory");
	va->vmm.ops = &agent_ops;
	va->vmm.planes_fd = va->vmm.hints_fd = va->vmm.pidfd = -1;
	STAILQ_INIT(&va->asks);
	va->wait = (struct timeval){deadline_ms / 1000, (deadline_ms % 1000) * 1000};
	va->open_done = done;
	va->open_arg = done_arg;
	region_map_init(&va->vmm.map);
	strcpy(va->vmm.hello.name, "?");
	va->sock = vmm_agent_connect(where->socket, SOCK_NONBLOCK, e);
	if (va->sock < 0) {
		agent_free(va);
		return -e->errnum;
	}
	if (getsockopt(va->sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.pid > 0)
		va->vmm.pidfd = (int)syscall(SYS_pidfd_open, cred.pid, 0);
	va->vmm.pid = cred.pid;
	va->readable = event_new(base, va->sock, EV_READ | EV_PERSIST, on_readable, va);
	va->deadline = event_new(base, -1, 0, on_deadline, va);
	if (va->readable == NULL || va->deadline == NULL) {
		agent_free(va);
		return err_set(e, ENOMEM, "out of memory");
	}
	event_add(va->readable, NULL);
	*v = &va->vmm;
	vmm_ask(*v, AGENT_HELLO, AGENT_VERSION, 0, -1, on_hello, va);
	return 0;
}
