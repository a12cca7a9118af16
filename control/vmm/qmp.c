// SPDX-License-Identifier: BSD-3-Clause
// Speaking QMP. Run by the thread of a QEMU's driver, by the keeper, and by recovery. Invariant:
// one command is under way at a time, so the next answer that bears an id is its own; what does not
// fit ends the conversation.

#include "qmp.h"

#include "clock.h"
#include "qmp_scan.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GREETING_MS 10000u

struct qmp {
	int fd;
	int cancel_fd;
	unsigned timeout_ms;
	unsigned version;
	bool adopted;   /* answers to others may come */
	struct err why; /* errnum != 0: given up */
	json_int_t id;  /* of the last command */
	struct qmp_scan scan;
	char *buf;
	size_t have, room;
	qmp_event_fn event;
	void *event_arg;
	struct qmp_meanwhile *meanwhile; /* NULL: nothing is done while QEMU is waited for */
};

/* The conversation is over; every later call fails like this one. */
static int give_up(struct qmp *q, const struct err *why, struct err *e)
{
	if (q->why.errnum == 0)
		q->why = *why;
	if (e != NULL)
		*e = q->why;
	return -q->why.errnum;
}

static uint64_t deadline_of(const struct qmp *q)
{
	return clock_ns() + q->timeout_ms * NS_PER_MS;
}

/* Until the socket is ready. what: for the sentence. */
static int wait_for(
	struct qmp *q, short events, uint64_t *deadline, const char *what, struct err *e)
{
	struct qmp_meanwhile *m = q->meanwhile;
	struct err why;

	for (;;) {
		struct pollfd p[4] = {{q->fd, events, 0}, {q->cancel_fd, POLLIN, 0},
			{m != NULL ? m->fd[0] : -1, POLLIN, 0},
			{m != NULL ? m->fd[1] : -1, POLLIN, 0}};
		uint64_t now = clock_ns();
		int ms = now < *deadline ? (int)((*deadline - now) / NS_PER_MS) + 1 : 0;
		int n = poll(p, 4, ms);

		if (n < 0 && errno != EINTR)
			err_sys(&why, errno, "cannot wait for QEMU");
		else if (n > 0 && (p[1].revents & POLLIN) != 0)
			err_set(&why, ECANCELED, "told not to wait for QEMU's answer to %s", what);
		else if (n > 0 && p[0].revents != 0)
			return 0;
		else if (n == 0 && ms == 0)
			err_set(&why, ETIMEDOUT,
				"QEMU did not answer %s within %u ms; it may be stopped or stuck, "
				"or another program holds this monitor: see whether it answers, or "
				"give QEMU a second -qmp socket",
				what, q->timeout_ms);
		else {
			if (n > 0 && m != NULL && m->fn(m))
				*deadline = deadline_of(q);
			continue;
		}
		return give_up(q, &why, e);
	}
}

/* More bytes. 0: some came, or none are there now. */
static int fill(struct qmp *q, struct err *e)
{
	struct err why;
	ssize_t n;

	if (q->have == q->room) {
		size_t room = q->room != 0 ? 2 * q->room : 16384;
		char *buf = realloc(q->buf, room);

		if (buf == NULL) {
			err_set(&why, ENOMEM, "out of memory for what QEMU says");
			return give_up(q, &why, e);
		}
		q->buf = buf;
		q->room = room;
	}
	n = recv(q->fd, q->buf + q->have, q->room - q->have, MSG_DONTWAIT);
	if (n > 0) {
		q->have += (size_t)n;
		return 0;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n == 0 || errno == ECONNRESET)
		err_set(&why, EPIPE, "QEMU closed its monitor: it has ended");
	else
		err_sys(&why, errno, "cannot read from QEMU's monitor");
	return give_up(q, &why, e);
}

/* The next whole message that is there already: 1, 0 for none, -errno. */
static int take(struct qmp *q, json_t **msg, struct err *e)
{
	struct err why;
	int64_t n = qmp_scan(&q->scan, q->buf, q->have, &why);

	if (n == 0)
		return 0;
	*msg = n > 0 ? qmp_scan_json(q->buf, (size_t)n, &why) : NULL;
	if (*msg == NULL)
		return give_up(q, &why, e);
	q->have -= (size_t)n;
	memmove(q->buf, q->buf + n, q->have);
	return 1;
}

/* True, and told, where the message is an event. */
static bool took_event(struct qmp *q, const json_t *msg)
{
	const char *name = json_string_value(json_object_get(msg, "event"));

	if (name != NULL && q->event != NULL)
		q->event(q->event_arg, name, json_object_get(msg, "data"));
	return name != NULL;
}

/* The next message that is no event. */
static int next(struct qmp *q, const char *what, json_t **msg, struct err *e)
{
	uint64_t deadline = deadline_of(q);
	int rc;

	for (;;) {
		while ((rc = take(q, msg, e)) == 1) {
			if (!took_event(q, *msg))
				return 0;
			json_decref(*msg);
		}
		if (rc == 0)
			rc = wait_for(q, POLLIN, &deadline, what, e);
		if (rc == 0)
			rc = fill(q, e);
		if (rc < 0)
			return rc;
	}
}

static int send_text(struct qmp *q, const char *what, const char *text, int fd, struct err *e)
{
	uint64_t deadline = deadline_of(q);
	size_t left = strlen(text);

	while (left > 0) {
		union {
			struct cmsghdr h;
			char space[CMSG_SPACE(sizeof(int))];
		} control = {0};
		struct iovec iov = {(char *)text, left};
		struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
		struct err why;
		ssize_t n;

		if (fd >= 0) {
			m.msg_control = &control;
			m.msg_controllen = sizeof(control.space);
			control.h = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
			memcpy(CMSG_DATA(&control.h), &fd, sizeof(fd));
		}
		n = sendmsg(q->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0) {
			fd = -1;
			text += n;
			left -= (size_t)n;
		} else if (n < 0 && errno == EAGAIN) {
			int rc = wait_for(q, POLLOUT, &deadline, what, e);

			if (rc < 0)
				return rc;
		} else if (n < 0 && errno != EINTR) {
			if (errno == EPIPE || errno == ECONNRESET)
				err_set(&why, EPIPE, "QEMU closed its monitor: it has ended");
			else
				err_sys(&why, errno, "cannot write to QEMU's monitor");
			return give_up(q, &why, e);
		}
	}
	return 0;
}

/* What an answer means: its return value, or the sentence of its error. */
static int read_answer(
	struct qmp *q, const char *command, json_t *msg, json_t **answer, struct err *e)
{
	json_t *value = json_object_get(msg, "return");
	const char *desc =
		json_string_value(json_object_get(json_object_get(msg, "error"), "desc"));
	struct err why;

	if (value != NULL) {
		if (answer != NULL)
			*answer = json_incref(value);
		return 0;
	}
	if (desc != NULL)
		return err_set(e, EREMOTEIO, "QEMU refused %s: %.240s", command, desc);
	err_set(&why, EPROTO, "QEMU answered %s with neither a value nor an error", command);
	return give_up(q, &why, e);
}

static int call(struct qmp *q, const char *command, json_t *arguments, int fd, json_t **answer,
	struct err *e)
{
	json_t *ask = json_pack("{s:s, s:I}", "execute", command, "id", ++q->id);
	char *text, *line = NULL;
	json_t *msg = NULL;
	struct err why;
	int rc;

	if (arguments != NULL)
		json_object_set_new(ask, "arguments", arguments);
	text = json_dumps(ask, JSON_COMPACT);
	json_decref(ask);
	if (q->why.errnum != 0 || text == NULL || asprintf(&line, "%s\n", text) < 0) {
		err_set(&why, ENOMEM, "out of memory for a QMP command");
		free(text);
		return give_up(q, &why, e);
	}
	free(text);
	rc = send_text(q, command, line, fd, e);
	free(line);
	while (rc == 0) {
		const json_t *id;

		rc = next(q, command, &msg, e);
		if (rc < 0)
			break;
		id = json_object_get(msg, "id");
		if (json_is_integer(id) && json_integer_value(id) == q->id) {
			rc = read_answer(q, command, msg, answer, e);
			json_decref(msg);
			break;
		}
		json_decref(msg);
		if (!q->adopted) {
			err_set(&why, EPROTO, "QEMU answered what was not asked, after %s",
				command);
			rc = give_up(q, &why, e);
		}
	}
	return rc;
}

int qmp_call(struct qmp *q, const char *command, json_t *arguments, json_t **answer, struct err *e)
{
	return call(q, command, arguments, -1, answer, e);
}

int qmp_call_fd(struct qmp *q, const char *command, json_t *arguments, int fd, struct err *e)
{
	return call(q, command, arguments, fd, NULL, e);
}

int qmp_poll(struct qmp *q, struct err *e)
{
	json_t *msg;
	int rc = q->why.errnum != 0 ? give_up(q, &q->why, e) : fill(q, e);

	while (rc == 0 && (rc = take(q, &msg, e)) == 1) {
		/* What is no event answers somebody else, or nobody: passed over. */
		took_event(q, msg);
		json_decref(msg);
		rc = 0;
		if (q->have == 0)
			break;
	}
	return rc;
}

static int read_greeting(struct qmp *q, struct err *e)
{
	int major = 0, minor = 0, micro = 0;
	struct err why;
	json_t *msg;
	int rc = next(q, "the connection with a greeting", &msg, e);

	if (rc < 0)
		return rc;
	rc = json_unpack(msg, "{s:{s:{s:{s:i, s:i, s:i}}}}", "QMP", "version", "qemu", "major",
		&major, "minor", &minor, "micro", &micro);
	json_decref(msg);
	if (rc != 0 || major < 0 || major > 9999 || minor < 0 || minor > 99 || micro < 0 ||
		micro > 99) {
		err_set(&why, EPROTO,
			"the monitor greets as no QEMU does; is this the socket of a monitor in "
			"control mode (-qmp)?");
		return give_up(q, &why, e);
	}
	q->version = (unsigned)(major * 10000 + minor * 100 + micro);
	return 0;
}

struct qmp *qmp_adopt(int fd, unsigned timeout_ms)
{
	struct qmp *q = calloc(1, sizeof(*q));

	if (q != NULL) {
		/* Not the ids of the one who spoke before. */
		*q = (struct qmp){fd, -1, timeout_ms, .adopted = true, .id = UINT32_MAX};
	}
	return q;
}

int qmp_open(struct qmp **out, const char *path, unsigned timeout_ms, int cancel_fd, struct err *e)
{
	int fd = qmp_connect(path, e);
	struct qmp *q;
	int rc;

	*out = NULL;
	if (fd < 0)
		return fd;
	q = qmp_adopt(fd, timeout_ms);
	if (q == NULL) {
		close(fd);
		return err_set(e, ENOMEM, "out of memory");
	}
	q->adopted = false;
	q->id = 0;
	q->cancel_fd = cancel_fd;
	/* A monitor that another one holds stays silent: that is not waited for as an answer is. */
	q->timeout_ms = timeout_ms < GREETING_MS ? timeout_ms : GREETING_MS;
	rc = read_greeting(q, e);
	q->timeout_ms = timeout_ms;
	if (rc == 0)
		rc = qmp_call(q, "qmp_capabilities", NULL, NULL, e);
	if (rc < 0) {
		qmp_close(q);
		return rc;
	}
	*out = q;
	return 0;
}

void qmp_close(struct qmp *q)
{
	if (q == NULL)
		return;
	close_fd(&q->fd);
	free(q->buf);
	free(q);
}

void qmp_on_event(struct qmp *q, qmp_event_fn fn, void *arg)
{
	q->event = fn;
	q->event_arg = arg;
}

void qmp_meanwhile(struct qmp *q, struct qmp_meanwhile *m)
{
	q->meanwhile = m;
}

unsigned qmp_patience(struct qmp *q, unsigned timeout_ms)
{
	unsigned was = q->timeout_ms;

	if (timeout_ms != 0)
		q->timeout_ms = timeout_ms;
	return was;
}

int qmp_fd(const struct qmp *q)
{
	return q->fd;
}

unsigned qmp_version(const struct qmp *q)
{
	return q->version;
}
