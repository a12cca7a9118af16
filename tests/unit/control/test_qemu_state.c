// SPDX-License-Identifier: BSD-3-Clause
// qemu_state.c against a QEMU that saves as it likes: it may write all of its state before it
// answers that it will, stand still, or fail. A thread is that QEMU; it has the time pass, so that
// what waits for half a minute is seen in a moment.

#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "clock.h"
#include "qemu_state.h"

#define PATIENCE_MS 30000u
#define MIB         (1u << 20)

static atomic_ullong passed_ns;

uint64_t __real_clock_ns(void);
uint64_t __wrap_clock_ns(void);
uint64_t __wrap_clock_ns(void)
{
	return __real_clock_ns() + atomic_load(&passed_ns);
}

struct way {
	size_t bytes;       /* of state, written before `migrate` is answered */
	bool refuses;       /* writes nothing */
	bool answers, ends; /* `migrate`; the stream */
	const char *status; /* of its migration then; NULL: no answer any more */
	bool given_up;      /* from the beginning */
	int rc;
	const char *text[2];
};

struct peer {
	const struct way *way;
	int fd, stream;
	bool silent, cancelled, closed_fd;
};

static void say(struct peer *p, const char *text)
{
	send(p->fd, text, strlen(text), MSG_NOSIGNAL);
}

/* A second goes by; whoever waits is woken by an event. */
static void tick(struct peer *p)
{
	atomic_fetch_add(&passed_ns, NS_PER_S);
	say(p, "{\"event\": \"TICK\"}\r\n");
}

static void write_state(struct peer *p)
{
	static const uint8_t state[4096] = {1, 2, 3};
	size_t left = p->way->bytes;

	while (left > 0) {
		ssize_t n = send(p->stream, state, left < sizeof(state) ? left : sizeof(state),
			MSG_NOSIGNAL);

		if (n < 0)
			break;
		left -= (size_t)n;
	}
	if (p->way->ends)
		close_fd(&p->stream);
}

static void carry_out(struct peer *p, const char *command, long long id)
{
	char text[256];

	snprintf(text, sizeof(text), "{\"return\": {}, \"id\": %lld}\r\n", id);
	if (strcmp(command, "migrate") == 0 && p->way->refuses) {
		snprintf(text, sizeof(text), "{\"error\": {\"desc\": \"planted\"}, \"id\": %lld}\n",
			id);
	} else if (strcmp(command, "migrate") == 0) {
		write_state(p);
		p->silent = !p->way->answers;
	} else if (strcmp(command, "closefd") == 0) {
		p->closed_fd = true;
	} else if (strcmp(command, "migrate_cancel") == 0) {
		p->cancelled = true;
	} else if (strcmp(command, "query-migrate") == 0) {
		tick(p);
		p->silent |= p->way->status == NULL;
		snprintf(text, sizeof(text), "{\"return\": {\"status\": \"%s\"}, \"id\": %lld}\r\n",
			p->cancelled ? "cancelled" : p->way->status, id);
	}
	if (!p->silent)
		say(p, text);
}

/* One message is one line: they are short, and one is under way at a time. */
static bool take(struct peer *p)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	char line[1024];
	struct iovec iov = {line, sizeof(line) - 1};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(p->fd, &m, 0);
	json_t *asked;

	if (n <= 0)
		return false;
	if (CMSG_FIRSTHDR(&m) != NULL)
		memcpy(&p->stream, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
	asked = json_loadb(line, (size_t)n, 0, NULL);
	carry_out(p, json_string_value(json_object_get(asked, "execute")),
		json_integer_value(json_object_get(asked, "id")));
	json_decref(asked);
	return true;
}

static void *run(void *arg)
{
	struct peer *p = arg;
	struct pollfd on = {p->fd, POLLIN, 0};
	bool there = true;

	while (there)
		if (poll(&on, 1, 2) > 0)
			there = take(p);
		else
			tick(p);
	close_fd(&p->stream);
	close_fd(&p->fd);
	return NULL;
}

static void save(const struct way *way)
{
	int sv[2], fd = -1, give_up = eventfd(way->given_up, EFD_CLOEXEC);
	struct peer p = {.way = way, .stream = -1};
	struct qemu u = {.pidfd = -1};
	uint64_t bytes = 0;
	pthread_t thread;
	struct err e = {0};

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	p.fd = sv[1];
	u.qmp = qmp_adopt(sv[0], PATIENCE_MS);
	assert_non_null(u.qmp);
	assert_int_equal(pthread_create(&thread, NULL, run, &p), 0);
	assert_int_equal(qemu_save(&u, give_up, &fd, &bytes, &e), way->rc);
	qmp_close(u.qmp);
	pthread_join(thread, NULL);
	if (way->rc == 0) {
		assert_int_equal(bytes, way->bytes);
		assert_int_equal(lseek(fd, 0, SEEK_END), way->bytes);
	}
	for (unsigned i = 0; i < 2 && way->text[i] != NULL; i++)
		assert_has(e.text, way->text[i]);
	/* QEMU is left in no migration, as long as it answers. */
	assert_int_equal(p.cancelled, way->rc != 0 && !p.silent);
	assert_int_equal(p.closed_fd, way->refuses);
	close_fd(&fd);
	close_fd(&give_up);
}

static void test_save(void **state)
{
	static const struct way ways[] = {
		/* More than a socket holds: it comes to its answer only because somebody takes it.
		 */
		{4 * MIB, false, true, true, "completed", false, 0, {NULL}},
		{65536, false, true, false, "active", false, -ETIMEDOUT,
			{"stood still for 30000 ms, and QEMU says of it: active",
				"(65536 bytes of its device state came, and no end)"}},
		{65536, false, true, false, NULL, false, -ETIMEDOUT, {"QEMU says of it: nothing"}},
		{65536, false, false, false, NULL, false, -ETIMEDOUT,
			{"QEMU did not answer migrate within 30000 ms", "(65536 bytes"}},
		{65536, false, true, true, "device", false, -ETIMEDOUT,
			{"was not completed for 30000 ms, and QEMU says of it: device",
				"came, and their end)"}},
		{65536, false, true, true, "failed", false, -EIO, {"device state failed"}},
		{0, true, false, false, "none", false, -EREMOTEIO, {"refused migrate: planted"}},
		/* It is not waited for what it can't write. */
		{4 * MIB, false, true, true, "failed", true, -ECANCELED, {"session ended"}},
		{0, false, true, false, "active", true, -ECANCELED, {"session ended"}},
		{65536, false, false, false, NULL, true, -ETIMEDOUT,
			{"QEMU did not answer migrate within 30000 ms"}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		save(&ways[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_save),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
