// SPDX-License-Identifier: BSD-3-Clause
// api.c, api_call.c and api_socket.c against stub sessions.

#include "harness.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "api.h"
#include "api_socket.h"
#include "command.h"
#include "conn.h"
#include "stub_session.h"

static struct event_base *base;
static struct session_host host;
static struct api *api;
static char path[64];

struct client {
	struct conn *conn;
	json_t *got; /* messages, in order */
	bool closed, ended;
};

static void on_json(void *arg, json_t *msg)
{
	struct client *c = arg;
	const char *event = json_string_value(json_object_get(msg, "event"));

	json_array_append(c->got, msg);
	c->ended |= event != NULL && strcmp(event, "end") == 0;
}

static void on_closed(void *arg, const struct err *why)
{
	struct client *c = arg;

	(void)why;
	c->closed = true;
}

static const struct conn_ops ops = {.json = on_json, .closed = on_closed};

static struct api_config config(void)
{
	return (struct api_config){.base = base, .host = &host, .path = path, .mode = 0600};
}

static int setup(void **state)
{
	struct api_config c = config();
	struct err e;

	(void)state;
	stub_base = base;
	return api_new(&api, &c, &e);
}

static int teardown(void **state)
{
	(void)state;
	api_free(api);
	stub_reset();
	return 0;
}

static void enter(struct client *c)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct err e;

	memset(c, 0, sizeof(*c));
	c->got = json_array();
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	c->conn = conn_new(base, fd, NULL, &e);
	conn_own(c->conn, &ops, c);
}

static void leave(struct client *c)
{
	conn_free(c->conn);
	json_decref(c->got);
}

/* The answer among what came since; what a watched session tells may come before it. */
static json_t *answer(struct client *c, size_t since)
{
	json_t *got;

	for (size_t i = since; i < json_array_size(c->got); i++) {
		got = json_array_get(c->got, i);
		if (json_object_get(got, "ok") != NULL)
			return got;
	}
	return NULL;
}

/* Sends one request and returns its answer, borrowed. */
static json_t *ask(struct client *c, const char *request)
{
	size_t before = json_array_size(c->got);

	assert_int_equal(conn_send(c->conn, json_loads(request, 0, NULL)), 0);
	harness_until(base, answer(c, before) != NULL);
	return answer(c, before);
}

static const char *text(json_t *o, const char *key)
{
	const char *t = json_string_value(json_object_get(o, key));

	return t ? t : "";
}

static bool is_ok(json_t *reply)
{
	return json_is_true(json_object_get(reply, "ok"));
}

static void test_refusals(void **state)
{
	static const struct {
		const char *request, *says, *errnum;
	} rows[] = {
		{"{}", "'do' is missing", "EINVAL"},
		{"{\"do\": 1}", "'do' is missing", "EINVAL"},
		{"{\"do\": \"fly\"}", "unknown request 'fly'", "EINVAL"},
		{"{\"do\": \"keys\"}", "unknown request 'keys'", "EINVAL"}, // godwit's alone
		{"{\"do\": \"list\", \"name\": \"a\"}", "unknown field 'name'", "EINVAL"},
		{"{\"do\": \"list\", \"all\": true}", "unknown field 'all'", "EINVAL"},
		{"{\"do\": \"cancel\"}", "'name' is missing", "EINVAL"},
		{"{\"do\": \"cancel\", \"name\": \"../x\"}", "use 1 to 63", "EINVAL"},
		{"{\"do\": \"cancel\", \"name\": \"nobody\"}", "no migration 'nobody'", "ENOENT"},
		{"{\"do\": \"migrate\", \"name\": \"a\"}", "exactly one of these is wanted",
			"EINVAL"},
		{"{\"do\": \"migrate\", \"name\": \"a\", \"agent\": \"/a\", \"to\": \"h:1\", "
		 "\"codec\": \"zip\"}",
			"zip", "EINVAL"},
		{"{\"do\": \"resolve\", \"name\": \"web\"}", "nothing is undecided", "ENOENT"},
	};
	struct client c;

	(void)state;
	enter(&c);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *reply = ask(&c, rows[i].request);

		assert_false(is_ok(reply));
		assert_has(text(reply, "error"), rows[i].says);
		assert_string_equal(text(reply, "errno"), rows[i].errnum);
	}
	assert_false(c.closed);
	leave(&c);
}

#define MIGRATE(name, more)                                                                        \
	"{\"do\": \"migrate\", \"agent\": \"/a.sock\", \"to\": \"h:1\", \"name\": \"" name         \
	"\"" more "}"

static void test_migrate_streams(void **state)
{
	struct client c;
	json_t *end;

	(void)state;
	host.nlcores = 3;
	enter(&c);
	assert_true(is_ok(ask(&c, MIGRATE("web", ", \"codec\": \"deflate:2\", \"hold\": true, "
						 "\"on_timeout\": \"pause\", \"downtime_ms\": 50, "
						 "\"throttle_percent\": 20"))));
	assert_string_equal(stub_migrate.vmm.socket, "/a.sock");
	assert_int_equal(stub_migrate.codec_level, 2);
	assert_int_equal(stub_migrate.flows, 3);
	assert_true(stub_migrate.hold);
	assert_int_equal(stub_migrate.limits.downtime_ns, 50000000);
	assert_int_equal(stub_migrate.limits.max_passes, 30);
	assert_int_equal(stub_migrate.limits.on_timeout, CONVERGE_PAUSE);
	assert_int_equal(stub_migrate.throttle_percent, 20);
	harness_run(base, &c.ended);
	/* answer, state, pass, passed, progress, log, end */
	assert_int_equal(json_array_size(c.got), 7);
	end = json_array_get(c.got, 6);
	assert_string_equal(text(end, "result"), "done");
	/* The same connection goes on, and one that comes late gets the end at once. */
	c.ended = false;
	assert_true(is_ok(ask(&c, "{\"do\": \"watch\", \"name\": \"web\"}")));
	harness_run(base, &c.ended);
	leave(&c);
}

static void test_leaving_ends_nothing(void **state)
{
	struct client c, d;
	json_t *reply;

	(void)state;
	enter(&c);
	assert_true(is_ok(ask(&c, MIGRATE("silent", ""))));
	leave(&c);
	enter(&d);
	reply = ask(&d, "{\"do\": \"status\", \"name\": \"silent\"}");
	assert_string_equal(text(json_object_get(reply, "session"), "state"), "copying");
	/* Two streams on one connection would mix. */
	assert_true(is_ok(ask(&d, "{\"do\": \"watch\", \"name\": \"silent\"}")));
	assert_string_equal(text(ask(&d, MIGRATE("other", "")), "errno"), "EBUSY");
	assert_null(session_find("other"));
	assert_true(is_ok(ask(&d, MIGRATE("other", ", \"detach\": true"))));
	ask(&d, "{\"do\": \"cancel\", \"name\": \"silent\"}");
	harness_run(base, &d.ended);
	leave(&d);
}

static void test_others(void **state)
{
	struct client c;
	json_t *reply;

	(void)state;
	enter(&c);
	assert_true(is_ok(ask(&c, "{\"do\": \"receive\", \"name\": \"silent\", \"agent\": \"/b\", "
				  "\"detach\": true}")));
	assert_string_equal(stub_receive.vmm.socket, "/b");
	assert_true(is_ok(ask(&c, "{\"do\": \"set\", \"name\": \"silent\", \"bytes_per_s\": 1000, "
				  "\"downtime_ms\": 7}")));
	assert_int_equal(stub_bandwidth, 1000);
	assert_int_equal(stub_downtime, 7000000);
	assert_false(is_ok(ask(&c, "{\"do\": \"set\", \"name\": \"silent\"}")));
	reply = ask(&c, "{\"do\": \"list\"}");
	assert_int_equal(json_array_size(json_object_get(reply, "sessions")), 1);
	reply = ask(&c, "{\"do\": \"status\"}");
	assert_string_equal(text(json_object_get(reply, "daemon"), "version"), GODWIT_VERSION);
	assert_true(is_ok(ask(&c, "{\"do\": \"switch-now\", \"name\": \"silent\"}")));
	assert_string_equal(
		text(ask(&c, "{\"do\": \"cancel\", \"name\": \"silent\"}"), "errno"), "EALREADY");
	reply = ask(&c, "{\"do\": \"resolve\", \"name\": \"undecided\", \"keep\": \"target\"}");
	assert_true(is_ok(reply));
	assert_non_null(json_object_get(reply, "tell"));
	assert_string_equal(stub_keep, "target");
	reply = ask(&c, "{\"do\": \"help\"}");
	assert_int_equal(json_object_size(json_object_get(reply, "commands")),
		COMMANDS - 3); // but keys, plot, completion
	leave(&c);
}

/* resolve answers later: what the client asks meanwhile waits, others do not; and it may leave. */
static void test_answers_later(void **state)
{
	const char *slow = "{\"do\": \"resolve\", \"name\": \"silent\"}";
	const char *quick = "{\"do\": \"version\"}";
	struct client c, other;

	(void)state;
	enter(&c);
	enter(&other);
	conn_send(c.conn, json_loads(slow, 0, NULL));
	assert_true(is_ok(ask(&other, quick)));
	assert_int_equal(json_array_size(c.got), 0);
	assert_non_null(json_object_get(ask(&c, quick), "tell"));
	while (json_array_size(c.got) < 2)
		harness_turn(base, 5);
	conn_send(c.conn, json_loads(slow, 0, NULL));
	harness_turn(base, 5);
	leave(&c);
	while (stub_resolved < 2)
		harness_turn(base, 5);
	leave(&other);
}

/* A report of a migration with very many passes does not fit one message: the passes are left out.
 */
static void test_long_report(void **state)
{
	struct client c;
	json_t *end;

	(void)state;
	enter(&c);
	assert_true(is_ok(ask(&c, MIGRATE("many", ""))));
	harness_run(base, &c.ended);
	end = json_array_get(c.got, json_array_size(c.got) - 1);
	assert_null(json_object_get(json_object_get(end, "report"), "passes_detail"));
	assert_non_null(json_object_get(json_object_get(end, "report"), "passes"));
	assert_true(is_ok(ask(&c, "{\"do\": \"status\", \"name\": \"many\"}")));
	assert_true(is_ok(ask(&c, "{\"do\": \"list\"}")));
	leave(&c);
}

static void test_bad_bytes(void **state)
{
	struct client c, d;
	uint8_t junk[64];

	(void)state;
	memset(junk, 0xff, sizeof(junk));
	enter(&c);
	enter(&d);
	assert_int_equal(write(conn_fd(c.conn), junk, sizeof(junk)), sizeof(junk));
	harness_run(base, &c.closed);
	assert_true(is_ok(ask(&d, "{\"do\": \"list\"}"))); /* the others do not notice */
	leave(&c);
	leave(&d);
}

static void test_crowd(void **state)
{
	static struct client c[API_CLIENTS + 1];

	(void)state;
	for (unsigned i = 0; i < API_CLIENTS + 1; i++) {
		enter(&c[i]);
		harness_turn(base, 1); /* connect() waits where the backlog is full */
	}
	harness_run(base, &c[API_CLIENTS].closed);
	assert_true(is_ok(ask(&c[0], "{\"do\": \"list\"}")));
	for (unsigned i = 0; i < API_CLIENTS + 1; i++)
		leave(&c[i]);
}

static void test_socket_file(void **state)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	struct api_config c = config();
	struct api_socket s;
	struct stat st;
	struct api *other;
	struct err e;
	int fd;

	(void)state;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(api_new(&other, &c, &e), -EADDRINUSE);
	assert_has(e.text, "another godwitd answers");
	assert_int_equal(stat(path, &st), 0);
	api_free(api);
	api = NULL;
	assert_int_equal(stat(path, &st), -1);
	/* What a killed daemon leaves is replaced. */
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	close(fd);
	assert_int_equal(api_socket_open(&s, &api_socket_names, path, 0640, "0", NULL, &e), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	api_socket_close(&s);
	/* What is no socket is not. */
	fclose(fopen(path, "w"));
	assert_int_equal(
		api_socket_open(&s, &api_socket_names, path, 0600, NULL, NULL, &e), -EEXIST);
	assert_int_equal(stat(path, &st), 0);
	unlink(path);
	assert_int_equal(
		api_socket_open(&s, &api_socket_names, path, 0600, "no-such-group", NULL, &e),
		-ENOENT);
	assert_int_equal(stat(path, &st), -1);
	assert_int_equal(api_socket_open(&s, &api_socket_names, "/proc/no/x", 0600, NULL, NULL, &e),
		-ENOENT);
}

static void test_long_path(void **state)
{
	struct api_socket s;
	char longest[200];
	struct err e;

	(void)state;
	memset(longest, 'x', sizeof(longest) - 1);
	longest[0] = '/';
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(api_socket_open(&s, &api_socket_names, longest, 0600, NULL, NULL, &e),
		-ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_migrate_streams, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leaving_ends_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answers_later, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_report, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crowd, setup, teardown),
		cmocka_unit_test(test_long_path),
		cmocka_unit_test_setup_teardown(test_socket_file, setup, teardown),
	};
	char dir[] = "/tmp/godwit-api-XXXXXX";
	int rc;

	signal(SIGPIPE, SIG_IGN); /* as godwitd does */
	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(path, sizeof(path), "%s/api.sock", dir);
	host.nlcores = 1;
	host.base = base = event_base_new();
	host.state_dir = dir;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	event_base_free(base);
	rmdir(dir);
	return rc;
}
