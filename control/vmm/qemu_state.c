// SPDX-License-Identifier: BSD-3-Clause
// Saving and loading device state. Run by the driver's thread, which waits: for a stream that does
// not move no longer than the monitor waits for an answer. The stream is drained to its end into a
// memfd, whole, before anybody gets a byte of it (law 9).

#include "qemu_state.h"

#include "clock.h"
#include "spool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAM_NAME "godwit-state"
#define PIECE_BYTES (256u << 10)
#define LOOK_MS     1 /* between questions how QEMU's migration stands */
#define LET_GO_NS   (10 * NS_PER_S)
#define SAYS_MS     3000u /* for a word about what stands still already: the guest does too */

enum outcome { UNDER_WAY, COMPLETED, ENDED };

static int ask_outcome(struct qemu *u, enum outcome *now, struct err *e)
{
	json_t *answer = NULL;
	uint64_t ram = 0, total;
	const char *status, *why;
	int rc = qmp_call(u->qmp, "query-migrate", NULL, &answer, e);

	if (rc < 0)
		return rc;
	status = json_string_value(json_object_get(answer, "status"));
	why = json_string_value(json_object_get(answer, "error-desc"));
	total = (uint64_t)json_integer_value(
		json_object_get(json_object_get(answer, "ram"), "total"));
	for (unsigned i = 0; i < u->nram; i++)
		ram += u->ram[i].bytes;
	*now = UNDER_WAY;
	if (status == NULL || strcmp(status, "none") == 0 || strcmp(status, "failed") == 0 ||
		strcmp(status, "cancelled") == 0) {
		*now = ENDED;
		rc = err_set(e, EIO, "QEMU's migration of the device state %.30s: %.200s",
			status != NULL ? status : "did not begin",
			why != NULL ? why : "it gives no reason; look at its messages");
	} else if (strcmp(status, "completed") == 0) {
		*now = COMPLETED;
		/* Which backends are left out differs by version: so it is looked at, not assumed.
		 */
		if (total >= ram && ram > 0)
			rc = err_set(e, ENOTSUP,
				"this QEMU does not leave the guest's RAM out of its device state "
				"(x-ignore-shared has no effect on these memory backends); use "
				"memory-backend-file with share=on");
	}
	json_decref(answer);
	return rc;
}

int qemu_cancel(struct qemu *u, struct err *e)
{
	uint64_t deadline = clock_ns() + LET_GO_NS;
	enum outcome now = UNDER_WAY;
	int rc = qmp_call(u->qmp, "migrate_cancel", NULL, NULL, e);

	while (rc >= 0) {
		rc = ask_outcome(u, &now, e);
		if (now != UNDER_WAY)
			return 0;
		if (clock_ns() > deadline)
			return err_set(e, ETIMEDOUT, "QEMU does not end its migration");
		poll(NULL, 0, LOOK_MS);
	}
	return rc;
}

/* A stream between QEMU and here: our end is sock. */
static int open_stream(struct qemu *u, int *sock, struct err *e)
{
	int sv[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return err_sys(e, errno, "cannot make a socket for the device state");
	rc = qmp_call_fd(u->qmp, "getfd", json_pack("{s:s}", "fdname", STREAM_NAME), sv[1], e);
	close(sv[1]);
	if (rc < 0) {
		close(sv[0]);
		return rc;
	}
	/* QEMU alone may change the flags of its end. */
	fcntl(sv[0], F_SETFL, O_NONBLOCK);
	*sock = sv[0];
	return 0;
}

/* QEMU is told to use the stream. */
static int start(struct qemu *u, const char *command, struct err *e)
{
	int rc = qmp_call(u->qmp, command, json_pack("{s:s}", "uri", "fd:" STREAM_NAME), NULL, e);
	struct err ignored;

	/* Who refuses has not taken it. */
	if (rc == -EREMOTEIO)
		qmp_call(u->qmp, "closefd", json_pack("{s:s}", "fdname", STREAM_NAME), NULL,
			&ignored);
	return rc;
}

static int gave_up(struct err *e)
{
	return err_set(e, ECANCELED, "the session ended while QEMU handled device state");
}

/* What QEMU saves, on its way into the memfd. QEMU holds its big lock while it writes, and answers
 * nothing before it could: not even `migrate` itself, which it may answer after it began to write.
 * So the stream is taken whatever QEMU is waited for. */
struct stream {
	struct qmp_meanwhile meanwhile; /* of the stream, until its end; and who gives up */
	int sock, fd;
	uint64_t bytes;
	bool ended;
	struct err why; /* errnum != 0: it can't be had, or is not wanted any more */
};

/* What has come. 1: the end of it; 0: no more now. */
static int drain(struct stream *s)
{
	uint8_t buf[PIECE_BYTES];

	for (;;) {
		ssize_t n = recv(s->sock, buf, sizeof(buf), 0);

		if (n == 0)
			return 1;
		if (n < 0)
			return errno == EAGAIN || errno == EINTR
				       ? 0
				       : err_sys(&s->why, errno, "cannot read QEMU's device state");
		if (s->bytes + (uint64_t)n > SPOOL_BYTES_MAX)
			return err_set(&s->why, EFBIG,
				"QEMU's device state is larger than %u MiB; does it hold RAM?",
				(unsigned)(SPOOL_BYTES_MAX >> 20));
		if (pwrite(s->fd, buf, (size_t)n, (off_t)s->bytes) != n)
			return err_sys(&s->why, errno, "cannot keep the device state");
		s->bytes += (uint64_t)n;
	}
}

/* True: it moved. Who gives up is no reason to wait longer for a QEMU. */
static bool take_some(struct qmp_meanwhile *m)
{
	struct stream *s = (struct stream *)m; /* its first member */
	struct pollfd p = {m->fd[1], POLLIN, 0};
	uint64_t had = s->bytes;
	int rc = poll(&p, 1, 0) > 0 ? gave_up(&s->why) : s->ended ? 0 : drain(s);

	if (rc != 0)
		m->fd[0] = -1;
	if (rc > 0) {
		s->ended = true;
	} else if (rc < 0) {
		m->fd[1] = -1;
		/* QEMU's end fails at once: what it can't write any more is not waited for. */
		shutdown(s->sock, SHUT_RDWR);
	}
	return s->bytes != had;
}

/* What was seen goes into the sentence. */
static int stood_still(struct qemu *u, const char *what, struct err *e)
{
	unsigned patience = qmp_patience(u->qmp, SAYS_MS);
	json_t *answer = NULL;
	const char *status = NULL;
	struct err ignored;

	if (qmp_call(u->qmp, "query-migrate", NULL, &answer, &ignored) == 0)
		status = json_string_value(json_object_get(answer, "status"));
	qmp_patience(u->qmp, patience);
	err_set(e, ETIMEDOUT, "%s for %u ms, and QEMU says of it: %.30s", what, patience,
		status != NULL ? status : "nothing");
	json_decref(answer);
	return -ETIMEDOUT;
}

static uint64_t patience_ns(struct qemu *u)
{
	return qmp_patience(u->qmp, 0) * NS_PER_MS;
}

/* To its end, which QEMU makes whether it completes or fails. */
static int take_stream(struct qemu *u, struct stream *s, struct err *e)
{
	uint64_t moved_ns = clock_ns();

	while (!s->ended && s->why.errnum == 0) {
		struct pollfd p[2] = {
			{s->meanwhile.fd[0], POLLIN, 0}, {s->meanwhile.fd[1], POLLIN, 0}};

		if (clock_ns() - moved_ns > patience_ns(u))
			return stood_still(u, "QEMU's device state stood still", e);
		poll(p, 2, LOOK_MS);
		if (take_some(&s->meanwhile))
			moved_ns = clock_ns();
	}
	return 0;
}

/* After the end of the stream. */
static int await_completed(struct qemu *u, struct stream *s, struct err *e)
{
	uint64_t began_ns = clock_ns();
	enum outcome now = UNDER_WAY;
	int rc = 0;

	while (rc == 0 && now != COMPLETED && s->why.errnum == 0) {
		rc = ask_outcome(u, &now, e);
		if (rc < 0 || now == COMPLETED)
			break;
		if (clock_ns() - began_ns > patience_ns(u))
			return stood_still(u, "QEMU's device state was not completed", e);
		poll(NULL, 0, LOOK_MS);
		take_some(&s->meanwhile); /* nothing more, or who gives up */
	}
	return rc;
}

static int save(struct qemu *u, struct stream *s, struct err *e)
{
	struct err why;
	int rc;

	qmp_meanwhile(u->qmp, &s->meanwhile);
	rc = start(u, "migrate", e);
	if (rc == 0)
		rc = take_stream(u, s, e);
	if (rc == 0)
		rc = await_completed(u, s, e);
	qmp_meanwhile(u->qmp, NULL);
	/* A QEMU that does not move is the better reason: it can't be told to let it be. */
	if (s->why.errnum != 0 && rc != -ETIMEDOUT) {
		*e = s->why;
		return -e->errnum;
	}
	if (rc != -ETIMEDOUT)
		return rc;
	why = *e;
	return err_set(e, ETIMEDOUT, "%.240s (%llu bytes of its device state came, and %s)",
		why.text, (unsigned long long)s->bytes, s->ended ? "their end" : "no end");
}

int qemu_save(struct qemu *u, int give_up_fd, int *out, uint64_t *bytes, struct err *e)
{
	_cleanup_(close_fd) int sock = -1;
	_cleanup_(close_fd) int fd = memfd_create("godwit-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct stream s = {.fd = fd};
	struct err ignored;
	int rc;

	*bytes = 0;
	if (fd < 0)
		return err_sys(e, errno, "cannot make a memfd for the device state");
	rc = open_stream(u, &sock, e);
	if (rc < 0)
		return rc;
	s.sock = sock;
	s.meanwhile = (struct qmp_meanwhile){{sock, give_up_fd}, take_some};
	rc = save(u, &s, e);
	if (rc < 0) {
		close_fd(&sock);
		qemu_cancel(u, &ignored);
		return rc;
	}
	*bytes = s.bytes;
	*out = fd;
	fd = -1;
	return 0;
}

/* Waits a little for the stream. 1: it is ready; 0: not yet; -ECANCELED. */
static int await_stream(int sock, short events, int give_up_fd, struct err *e)
{
	struct pollfd p[2] = {{sock, events, 0}, {give_up_fd, POLLIN, 0}};
	int n = poll(p, 2, LOOK_MS);

	return n > 0 && (p[1].revents & POLLIN) != 0 ? gave_up(e) : n > 0;
}

/* The next pieces of the memfd, as many as the socket takes. */
static int feed(int sock, int fd, uint64_t bytes, uint64_t *at, struct err *e)
{
	uint8_t buf[PIECE_BYTES];

	while (*at < bytes) {
		size_t want = bytes - *at < sizeof(buf) ? (size_t)(bytes - *at) : sizeof(buf);
		ssize_t n = pread(fd, buf, want, (off_t)*at);

		if (n <= 0)
			return err_sys(e, n == 0 ? ENODATA : errno, "cannot read the device state");
		n = send(sock, buf, (size_t)n, MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n < 0)
			return err_sys(e, errno,
				"QEMU does not take the device state; its own messages say why");
		*at += (uint64_t)n;
	}
	shutdown(sock, SHUT_WR);
	return 0;
}

int qemu_load(struct qemu *u, int fd, uint64_t bytes, int give_up_fd, struct err *e)
{
	uint64_t moved_ns = clock_ns(), at = 0, had = 0;
	_cleanup_(close_fd) int sock = -1;
	enum outcome now = UNDER_WAY;
	int rc = open_stream(u, &sock, e);

	if (rc == 0)
		rc = start(u, "migrate-incoming", e);
	while (rc >= 0 && now != COMPLETED) {
		rc = await_stream(at < bytes ? sock : -1, POLLOUT, give_up_fd, e);
		if (rc > 0)
			rc = feed(sock, fd, bytes, &at, e);
		if (rc >= 0 && at == bytes)
			rc = ask_outcome(u, &now, e);
		if (at != had)
			moved_ns = clock_ns();
		had = at;
		if (rc >= 0 && clock_ns() - moved_ns > patience_ns(u))
			rc = err_set(e, ETIMEDOUT,
				"QEMU stopped taking its device state (%llu bytes of %llu went)",
				(unsigned long long)at, (unsigned long long)bytes);
	}
	if (rc == -EPIPE)
		err_set(e, EPIPE,
			"QEMU ended while it loaded the device state; its own messages say why (a "
			"device that the source does not have, or with other options)");
	return rc < 0 ? rc : 0;
}

json_t *qemu_announcement(void)
{
	return json_pack(
		"{s:i, s:i, s:i, s:i}", "initial", 50, "max", 550, "rounds", 5, "step", 100);
}

int qemu_announce(struct qemu *u, struct err *e)
{
	struct err why;
	int rc = qmp_call(u->qmp, "announce-self", qemu_announcement(), NULL, &why);

	return rc == 0 ? 0
		       : err_set(e, why.errnum,
				 "the guest runs, and QEMU did not tell the network where "
				 "(announce-self): %.160s. Others may not reach it until it speaks",
				 why.text);
}
