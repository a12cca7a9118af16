// SPDX-License-Identifier: BSD-3-Clause
// The agent's thread: one poll over the listening socket, connections, and an eventfd to stop.
// Invariants: a connection becomes the session only by its hello, and only while there is none; the
// session's end of file ends the lease (law 6); nothing that a peer does or leaves undone keeps the
// thread from seeing that end of file or the stop for longer than ANSWER_MS.

#include "agent.h"

#include "agent_state.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MS    10000 /* a daemon that does not take an answer for so long is given up */
#define RETRY_MS     1000  /* between tries to resume a guest whose lease ended */
#define POLL_STOP    0
#define POLL_LISTEN  1
#define POLL_SESSION 2
#define POLL_WAITING 3
#define POLLS        (POLL_WAITING + AGENT_WAITING)

/* The lease ends: the guest runs on as if there had been no migration. */
static void lease_end(struct godwit *g)
{
	enum godwit_state now = godwit_get_state(g), next;
	bool resume;

	next = agent_state_eof(now, &resume);
	g->resume_due = resume && g->ops->resume(g->opaque) < 0;
	if (!g->resume_due)
		atomic_store(&g->state, (int)next);
	if (g->throttled && g->ops->throttle(g->opaque, 100) == 0)
		g->throttled = false;
}

/* The VMM could not do at the lease's end what it was asked to; it is asked again. */
static bool due(const struct godwit *g)
{
	return g->session.sock < 0 && (g->resume_due || g->throttled);
}

static void session_end(struct godwit *g)
{
	if (g->session.sock < 0)
		return;
	close_fd(&g->session.sock);
	/* The guest first, then what only costs it time. */
	lease_end(g);
	agent_untrack(g, NULL);
	agent_drop_planes(g);
}

/* Sends an answer, waiting a while for room. False: the peer is to be given up. */
static bool answer_send(struct godwit *g, int sock, const struct agent_msg *m)
{
	int rc = agent_send(sock, m);

	if (rc == -EAGAIN) {
		struct pollfd p[2] = {{g->stop, POLLIN, 0}, {sock, POLLOUT, 0}};

		if (poll(p, 2, ANSWER_MS) > 0 && p[0].revents == 0)
			rc = agent_send(sock, m);
	}
	return rc == 0;
}

/* Tells the peer why it is not served any further. A request whose type is none is answered as a
 * hello would be, so that the answer itself can be read. */
static void answer_error(struct godwit *g, int sock, const struct agent_msg *ask, struct err *e)
{
	unsigned type = ask->type & ~AGENT_ANSWER;
	struct agent_msg m = {.seq = ask->seq, .status = -e->errnum, .fd = -1};

	if (type < AGENT_HELLO || type >= AGENT_TYPES)
		type = AGENT_HELLO;
	m.type = (uint16_t)(type | AGENT_ANSWER);
	m.body_bytes = strlen(e->text);
	memcpy(m.body, e->text, m.body_bytes);
	answer_send(g, sock, &m);
}

/* END was answered: from here on no daemon is served. */
static void guest_end(struct godwit *g)
{
	agent_unlisten(g);
	agent_untrack(g, NULL);
	g->ops->end(g->opaque);
}

/* Answers one request of the session; at end of file, or when the daemon talks nonsense, ends it.
 * False when nothing more was there. */
static bool session_serve(struct godwit *g)
{
	struct agent_msg ask, answer;
	struct err e = {.errnum = EPROTO};
	int rc = agent_recv(g->session.sock, &ask, &e);
	bool sent;

	if (rc == -EAGAIN)
		return false;
	if (rc == 0 && (ask.type & AGENT_ANSWER) != 0)
		rc = err_set(&e, EPROTO, "an answer came where requests are taken");
	if (rc == -EPROTO)
		answer_error(g, g->session.sock, &ask, &e);
	if (rc < 0) {
		close_fd(&ask.fd);
		session_end(g);
		return false;
	}
	agent_do(g, &ask, &answer);
	answer.type = ask.type | AGENT_ANSWER;
	answer.seq = ask.seq;
	sent = answer_send(g, g->session.sock, &answer);
	close_fd(&ask.fd);
	close_fd(&answer.fd);
	if (godwit_get_state(g) == GODWIT_ENDED) {
		guest_end(g);
		return false;
	}
	if (!sent)
		session_end(g);
	return sent;
}

/* Only the VMM's own user and root may drive it. */
static bool peer_allowed(int sock)
{
	struct ucred cred = {0};
	socklen_t len = sizeof(cred);

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
	       (cred.uid == 0 || cred.uid == geteuid());
}

static void waiting_remove(struct godwit *g, unsigned i)
{
	for (; i + 1 < AGENT_WAITING; i++)
		g->waiting[i] = g->waiting[i + 1];
	g->waiting[AGENT_WAITING - 1] = -1;
}

static void waiting_add(struct godwit *g)
{
	int sock = accept4(g->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	unsigned i = 0;

	if (sock < 0)
		return;
	while (i < AGENT_WAITING && g->waiting[i] >= 0)
		i++;
	if (i == AGENT_WAITING) {
		close_fd(&g->waiting[0]);
		waiting_remove(g, 0);
		i--;
	}
	g->waiting[i] = sock;
}

/* A connection's first packet: it becomes the session, or is told why not. */
static void waiting_serve(struct godwit *g, unsigned i)
{
	int sock = g->waiting[i];
	struct agent_msg ask, answer;
	struct err e = {.errnum = EPROTO};
	int rc = agent_recv(sock, &ask, &e);

	if (rc == -EAGAIN)
		return;
	waiting_remove(g, i);
	close_fd(&ask.fd);
	if (rc == 0 && ask.type != AGENT_HELLO)
		rc = err_set(&e, EPROTO, "the first request must be hello");
	else if (rc == 0 && !peer_allowed(sock))
		rc = err_set(&e, EPERM, "only root and the VMM's own user may migrate its guest");
	else if (rc == 0 && g->session.sock >= 0)
		rc = err_set(&e, EBUSY, "another daemon is connected to this VMM");
	if (rc < 0) {
		if (rc != -EPIPE)
			answer_error(g, sock, &ask, &e);
		close(sock);
		return;
	}
	g->session.sock = sock;
	g->resume_due = false; /* a guest that is still paused is under this daemon's lease now */
	agent_do(g, &ask, &answer);
	answer.type = ask.type | AGENT_ANSWER;
	answer.seq = ask.seq;
	if (!answer_send(g, sock, &answer) || answer.status != 0)
		session_end(g);
	close_fd(&answer.fd);
}

/* One round. False when the thread is to end. */
static bool serve_round(struct godwit *g)
{
	struct pollfd p[POLLS];

	p[POLL_STOP] = (struct pollfd){g->stop, POLLIN, 0};
	p[POLL_LISTEN] = (struct pollfd){g->listen, POLLIN, 0};
	p[POLL_SESSION] = (struct pollfd){g->session.sock, POLLIN, 0};
	for (unsigned i = 0; i < AGENT_WAITING; i++)
		p[POLL_WAITING + i] = (struct pollfd){g->waiting[i], POLLIN, 0};
	if (poll(p, POLLS, due(g) ? RETRY_MS : -1) < 0)
		return errno == EINTR;
	if (p[POLL_STOP].revents != 0)
		return false;
	if (due(g))
		lease_end(g);
	if (p[POLL_SESSION].revents & POLLHUP) {
		/* Its last requests, then its end, before another may say hello. */
		while (g->session.sock >= 0 && session_serve(g))
			;
	} else if (p[POLL_SESSION].revents != 0) {
		session_serve(g);
	}
	if (godwit_get_state(g) == GODWIT_ENDED)
		return false;
	/* From the last, as those that are served leave the list. */
	for (unsigned i = AGENT_WAITING; i-- > 0;)
		if (p[POLL_WAITING + i].revents != 0)
			waiting_serve(g, i);
	if (p[POLL_LISTEN].revents != 0)
		waiting_add(g);
	return true;
}

void *agent_thread(void *arg)
{
	struct godwit *g = arg;

	while (serve_round(g))
		;
	session_end(g);
	for (unsigned i = 0; i < AGENT_WAITING; i++)
		close_fd(&g->waiting[i]);
	agent_unlisten(g);
	return NULL;
}
