// SPDX-License-Identifier: BSD-3-Clause
// The VMM driver for an unmodified QEMU: the row of the port that runs on a thread of its own,
// because asking QEMU waits. The loop puts requests into a queue and gets their answers from
// another, in order; so the thread is to QEMU what libgodwit's thread is to its VMM.

#include "vmm_qemu.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

static void free_asks(struct vmm_qemu_asks *asks)
{
	struct vmm_qemu_ask *ask;

	while ((ask = STAILQ_FIRST(asks)) != NULL) {
		STAILQ_REMOVE_HEAD(asks, next);
		close_fd(&ask->fd);
		close_fd(&ask->answer.fd);
		free(ask);
	}
}

static void put(struct vmm_qemu *q)
{
	struct vmm *v = &q->vmm;

	if (atomic_fetch_sub(&q->refs, 1) != 1)
		return;
	free_asks(&q->asks);
	free_asks(&q->answers);
	if (v->out != NULL)
		munmap(v->out, 2 * v->map.nchunks * sizeof(uint64_t));
	json_decref(v->about);
	json_decref(v->direct);
	free(v->vcpus);
	close_fd(&v->planes_fd);
	close_fd(&v->pidfd);
	region_map_close(&v->map);
	close_fd(&q->ask_fd);
	close_fd(&q->quit_fd);
	close_fd(&q->answer_fd);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

/* The thread. */

/* The next request, or NULL: told to quit, or nothing to do but to listen to QEMU. */
static struct vmm_qemu_ask *take_ask(struct vmm_qemu *q, bool *quit)
{
	struct vmm_qemu_ask *ask;
	eventfd_t one;

	pthread_mutex_lock(&q->lock);
	*quit = q->quit;
	ask = q->quit ? NULL : STAILQ_FIRST(&q->asks);
	if (ask != NULL) {
		STAILQ_REMOVE_HEAD(&q->asks, next);
		eventfd_read(q->ask_fd, &one);
	}
	pthread_mutex_unlock(&q->lock);
	return ask;
}

static void give_answer(struct vmm_qemu *q, struct vmm_qemu_ask *ask)
{
	pthread_mutex_lock(&q->lock);
	STAILQ_INSERT_TAIL(&q->answers, ask, next);
	pthread_mutex_unlock(&q->lock);
	eventfd_write(q->answer_fd, 1);
}

/* QEMU can't be spoken to any more; told once, after the answers to what was asked. */
static void set_gone(struct vmm_qemu *q, const struct err *why)
{
	pthread_mutex_lock(&q->lock);
	if (q->why.errnum == 0) {
		q->why = *why;
		q->gone = true;
	}
	pthread_mutex_unlock(&q->lock);
	eventfd_write(q->answer_fd, 1);
}

static bool is_gone(struct vmm_qemu *q)
{
	return q->why.errnum != 0; /* written by this thread only */
}

static void answer(struct vmm_qemu *q, struct vmm_qemu_ask *ask)
{
	struct vmm_answer *a = &ask->answer;
	struct err broken;

	*a = (struct vmm_answer){.fd = -1};
	if (is_gone(q)) {
		a->status = -EPIPE;
		a->why = q->why;
	} else {
		a->status = vmm_qemu_do(q, ask, &a->why);
	}
	a->leased = a->status < 0 && ask->type == AGENT_RESUME && vmm_qemu_leased(q);
	give_answer(q, ask);
	if (!is_gone(q))
		vmm_qemu_tidy(q);
	/* A monitor that was given up says so from now on. */
	if (!is_gone(q) && q->qemu.qmp != NULL && q->state != GODWIT_ENDED &&
		qmp_poll(q->qemu.qmp, &broken) < 0)
		set_gone(q, &broken);
}

/* Until there is something to do, or QEMU says something. */
static void idle(struct vmm_qemu *q)
{
	struct pollfd p[2] = {{q->ask_fd, POLLIN, 0}, {-1, POLLIN, 0}};
	struct err e;

	if (q->qemu.qmp != NULL && !is_gone(q) && q->state != GODWIT_ENDED)
		p[1].fd = qmp_fd(q->qemu.qmp);
	poll(p, 2, -1);
	if (p[1].fd >= 0 && p[1].revents != 0 && qmp_poll(q->qemu.qmp, &e) < 0)
		set_gone(q, &e);
}

static void *work(void *arg)
{
	struct vmm_qemu *q = arg;
	bool quit = false;

	while (!quit) {
		struct vmm_qemu_ask *ask = take_ask(q, &quit);

		if (ask != NULL)
			answer(q, ask);
		else if (!quit)
			idle(q);
	}
	vmm_qemu_leave(q);
	put(q);
	return NULL;
}

/* The loop. */

static void qemu_ask(
	struct vmm *v, uint16_t type, uint64_t a, uint64_t b, int fd, vmm_fn done, void *arg)
{
	struct vmm_qemu *q = (struct vmm_qemu *)v;
	struct vmm_qemu_ask *ask = calloc(1, sizeof(*ask));

	if (ask == NULL)
		abort(); /* the event loop itself can't go on without memory */
	*ask = (struct vmm_qemu_ask){.type = type, .a = a, .b = b, .done = done, .arg = arg};
	ask->fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
	ask->answer.fd = -1;
	pthread_mutex_lock(&q->lock);
	STAILQ_INSERT_TAIL(&q->asks, ask, next);
	/* Under the lock: it counts what is in the queue, and saving is given up for what is. */
	eventfd_write(q->ask_fd, 1);
	pthread_mutex_unlock(&q->lock);
}

static void let_go(struct vmm_qemu *q)
{
	event_free(q->answered);
	put(q);
}

static void qemu_close_vmm(struct vmm *v)
{
	struct vmm_qemu *q = (struct vmm_qemu *)v;

	pthread_mutex_lock(&q->lock);
	q->quit = true;
	pthread_mutex_unlock(&q->lock);
	eventfd_write(q->quit_fd, 1);
	eventfd_write(q->ask_fd, 1);
	event_del(q->answered);
	q->closed = true;
	if (!q->in_callback)
		let_go(q);
}

static struct vmm_qemu_ask *take_answer(struct vmm_qemu *q, bool *gone)
{
	struct vmm_qemu_ask *ask;

	pthread_mutex_lock(&q->lock);
	ask = STAILQ_FIRST(&q->answers);
	if (ask != NULL)
		STAILQ_REMOVE_HEAD(&q->answers, next);
	*gone = ask == NULL && q->gone && STAILQ_EMPTY(&q->asks);
	if (*gone)
		q->gone = false;
	pthread_mutex_unlock(&q->lock);
	return ask;
}

static void on_answered(evutil_socket_t fd, short what, void *arg)
{
	struct vmm_qemu *q = arg;
	struct vmm_qemu_ask *ask;
	eventfd_t some;
	bool gone;

	(void)what;
	eventfd_read(fd, &some);
	q->in_callback = true;
	while (!q->closed && (ask = take_answer(q, &gone)) != NULL) {
		ask->done(ask->arg, &ask->answer);
		close_fd(&ask->fd);
		free(ask);
	}
	if (!q->closed && gone && q->vmm.gone != NULL) {
		struct err why = q->why;

		q->vmm.gone(q->vmm.gone_arg, &why);
	}
	q->in_callback = false;
	if (q->closed)
		let_go(q);
}

static const struct vmm_ops qemu_ops = {"qemu", qemu_ask, qemu_close_vmm};

static int start(struct vmm_qemu *q, struct event_base *base, struct err *e)
{
	sigset_t all, old;
	pthread_t thread;
	int rc;

	q->ask_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
	q->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->answer_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->ask_fd < 0 || q->quit_fd < 0 || q->answer_fd < 0)
		return err_sys(e, errno, "cannot make an eventfd");
	q->answered = event_new(base, q->answer_fd, EV_READ | EV_PERSIST, on_answered, q);
	if (q->answered == NULL || event_add(q->answered, NULL) != 0)
		return err_set(e, ENOMEM, "out of memory");
	atomic_store(&q->refs, 2);
	/* Signals are the control loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&thread, NULL, work, q);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0) {
		atomic_store(&q->refs, 1);
		return err_sys(e, rc, "cannot start a thread for QEMU");
	}
	pthread_detach(thread);
	return 0;
}

int vmm_qemu_open(struct vmm **v, struct event_base *base, const struct vmm_where *where,
	unsigned deadline_ms, vmm_fn done, void *done_arg, struct err *e)
{
	struct vmm_qemu *q = calloc(1, sizeof(*q));
	int rc;

	if (q == NULL)
		return err_set(e, ENOMEM, "out of memory");
	q->vmm.ops = &qemu_ops;
	q->vmm.planes_fd = q->vmm.pidfd = -1;
	strcpy(q->vmm.hello.name, "?");
	region_map_init(&q->vmm.map);
	q->qemu.pidfd = -1;
	q->where = *where;
	q->deadline_ms = deadline_ms;
	q->ask_fd = q->quit_fd = q->answer_fd = -1;
	STAILQ_INIT(&q->asks);
	STAILQ_INIT(&q->answers);
	pthread_mutex_init(&q->lock, NULL);
	atomic_store(&q->refs, 1);
	rc = start(q, base, e);
	if (rc < 0) {
		if (q->answered != NULL)
			event_free(q->answered);
		put(q);
		return rc;
	}
	*v = &q->vmm;
	vmm_ask(*v, AGENT_HELLO, 0, 0, -1, done, done_arg);
	return 0;
}
