// SPDX-License-Identifier: BSD-3-Clause
// qmp_scan.c and qmp.c: messages however they are cut, answers, events, and monitors that lie. The
// other end of a socket pair says beforehand what a monitor would say; ids count from 1.

#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "qmp.h"
#include "qmp_scan.h"

#define SOON_MS 200

static void test_scan_cut_anywhere(void **state)
{
	static const char text[] = "\r\n {\"a\": \"}\\\"{\", \"b\": [1, {}]}\n{\"c\": 2}";
	struct err e;

	(void)state;
	for (size_t cut = 0; cut < sizeof(text) - 1; cut++) {
		struct qmp_scan s = {0};
		int64_t n = qmp_scan(&s, text, cut, &e);

		if (n == 0)
			n = qmp_scan(&s, text, sizeof(text) - 1, &e);
		assert_int_equal(n, strchr(text + 3, '\n') - text);
		assert_int_equal(qmp_scan(&s, text + n, sizeof(text) - 1 - (size_t)n, &e), 9);
	}
}

static void test_scan_refuses(void **state)
{
	struct qmp_scan s = {0};
	char deep[2 * QMP_DEPTH], *endless;
	struct err e;

	(void)state;
	assert_int_equal(qmp_scan(&s, "QEMU 7.2 monitor", 16, &e), -EPROTO);
	assert_has(e.text, "this is no QMP");
	memset(deep, '{', sizeof(deep));
	s = (struct qmp_scan){0};
	assert_int_equal(qmp_scan(&s, deep, sizeof(deep), &e), -EPROTO);
	s = (struct qmp_scan){0};
	endless = malloc(QMP_MESSAGE_BYTES);
	memset(endless, 'x', QMP_MESSAGE_BYTES);
	endless[0] = '{';
	assert_int_equal(qmp_scan(&s, endless, QMP_MESSAGE_BYTES - 1, &e), 0);
	assert_int_equal(qmp_scan(&s, endless, QMP_MESSAGE_BYTES, &e), -EPROTO);
	assert_has(e.text, "longer than");
	free(endless);
}

/* A conversation whose other end has said all it will. */
static struct qmp *adopted(const char *says, int *other)
{
	int sv[2];
	struct qmp *q;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	assert_int_equal(write(sv[1], says, strlen(says)), (ssize_t)strlen(says));
	q = qmp_adopt(sv[0], SOON_MS);
	assert_non_null(q);
	*other = sv[1];
	return q;
}

static void count(void *arg, const char *event, const json_t *data)
{
	(void)data;
	*(unsigned *)arg += strcmp(event, "STOP") == 0;
}

static void test_answers(void **state)
{
	/* 4294967296 is the first id of one that took a socket over. */
	int other;
	struct qmp *q = adopted("{\"event\": \"STOP\", \"data\": {}}\r\n"
				"{\"return\": 1, \"id\": 5}\r\n"
				"{\"return\": {\"status\": \"paused\"}, \"id\": 4294967296}\r\n"
				"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no way\"}, "
				"\"id\": 4294967297}\r\n{\"event\": \"STOP\"}\r\n",
		&other);
	unsigned stops = 0;
	json_t *answer;
	struct err e;

	(void)state;
	qmp_on_event(q, count, &stops);
	assert_int_equal(qmp_call(q, "query-status", NULL, &answer, &e), 0);
	assert_string_equal(json_string_value(json_object_get(answer, "status")), "paused");
	json_decref(answer);
	assert_int_equal(stops, 1);
	assert_int_equal(qmp_call(q, "stop", NULL, NULL, &e), -EREMOTEIO);
	assert_has(e.text, "QEMU refused stop: no way");
	assert_int_equal(qmp_poll(q, &e), 0);
	assert_int_equal(stops, 2);
	/* Silence, and from then on nothing is asked any more. */
	assert_int_equal(qmp_call(q, "cont", NULL, NULL, &e), -ETIMEDOUT);
	assert_has(e.text, "did not answer cont");
	assert_int_equal(qmp_poll(q, &e), -ETIMEDOUT);
	close(other);
	qmp_close(q);
}

static void test_end_of_file(void **state)
{
	int other;
	struct qmp *q = adopted("{\"ret", &other);
	struct err e;

	(void)state;
	close(other);
	assert_int_equal(qmp_poll(q, &e), 0);
	assert_int_equal(qmp_poll(q, &e), -EPIPE);
	assert_int_equal(qmp_call(q, "cont", NULL, NULL, &e), -EPIPE);
	qmp_close(q);
}

/* A server whose only client finds what it says waiting. */
static int serve(const char *path, const char *says)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	unlink(path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 1), 0);
	if (fork() == 0) {
		int c = accept(fd, NULL, NULL);
		char drop[256];

		if (write(c, says, strlen(says)) < 0)
			_exit(1);
		/* Until the client leaves. */
		while (read(c, drop, sizeof(drop)) > 0)
			;
		_exit(0);
	}
	return fd;
}

#define GREETING                                                                                   \
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, "         \
	"\"package\": \"\"}, \"capabilities\": [\"oob\"]}}\r\n"

static void test_open(void **state)
{
	static const struct {
		const char *says;
		int status;
		const char *text;
	} rows[] = {
		{GREETING "{\"return\": {}, \"id\": 1}\r\n", 0, NULL},
		{GREETING "{\"return\": {}, \"id\": 2}\r\n", -EPROTO, "what was not asked"},
		{GREETING "{\"error\": {\"desc\": \"busy\"}, \"id\": 1}", -EREMOTEIO, "busy"},
		{GREETING "{\"id\": 1}", -EPROTO, "neither"},
		{GREETING, -ETIMEDOUT, "did not answer qmp_capabilities"},
		{"", -ETIMEDOUT, "another program holds this monitor"},
		{"{\"QMP\": 1}", -EPROTO, "as no QEMU does"},
		{"(qemu) ", -EPROTO, "this is no QMP"},
		{"{\"QMP\": \"\xff\"}", -EPROTO, "no JSON"},
	};
	char path[] = "/tmp/gwqmpXXXXXX";
	struct qmp *q;
	struct err e;

	(void)state;
	close(mkstemp(path));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int fd = serve(path, rows[i].says);
		/* Who will say something may be slow to. */
		unsigned ms = rows[i].status == -ETIMEDOUT ? SOON_MS : 30000;

		assert_int_equal(qmp_open(&q, path, ms, -1, &e), rows[i].status);
		if (rows[i].status == 0)
			assert_int_equal(qmp_version(q), 70222);
		else
			assert_has(e.text, rows[i].text);
		qmp_close(q);
		close(fd);
	}
	unlink(path);
	assert_int_equal(qmp_open(&q, path, SOON_MS, -1, &e), -ENOENT);
}

static void test_cancel(void **state)
{
	char path[] = "/tmp/gwqmpXXXXXX";
	int fd, stop = eventfd(1, EFD_CLOEXEC);
	struct qmp *q;
	struct err e;

	(void)state;
	close(mkstemp(path));
	fd = serve(path, "");
	assert_int_equal(qmp_open(&q, path, 60000, stop, &e), -ECANCELED);
	close(fd);
	close(stop);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scan_cut_anywhere),
		cmocka_unit_test(test_scan_refuses),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_end_of_file),
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_cancel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
