// SPDX-License-Identifier: BSD-3-Clause
// conn.c and conn_parse.c: bounds, pieces, strangers, slow readers, callbacks that free.

#include "harness.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>

#include "conn.h"

struct side {
	struct conn *conn;
	int jsons, blobs, closed;
	size_t blob_bytes;
	bool any; /* something happened */
	bool free_in_json;
	struct err why;
	json_t *last;
};

static struct event_base *base;

static void on_json(void *arg, json_t *msg)
{
	struct side *s = arg;

	s->jsons++;
	s->any = true;
	json_decref(s->last);
	s->last = json_incref(msg);
	if (s->free_in_json) {
		conn_free(s->conn);
		s->conn = NULL;
	}
}

static void on_blob(void *arg, const uint8_t *data, size_t bytes)
{
	struct side *s = arg;

	s->blobs++;
	s->any = true;
	for (size_t i = 0; i < bytes; i++)
		assert_int_equal(data[i], (uint8_t)i);
	s->blob_bytes = bytes;
}

static void on_closed(void *arg, const struct err *why)
{
	struct side *s = arg;

	s->closed++;
	s->any = true;
	s->why = *why;
	conn_free(s->conn);
	s->conn = NULL;
}

static const struct conn_ops with_blobs = {on_json, on_blob, on_closed};
static const struct conn_ops no_blobs = {on_json, NULL, on_closed};

/* A connection, and the bare socket at its other end. */
static int make(struct side *s, const struct conn_ops *ops)
{
	struct err e;
	int fds[2];

	memset(s, 0, sizeof(*s));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	s->conn = conn_new(base, fds[0], NULL, &e);
	assert_non_null(s->conn);
	if (ops != NULL)
		conn_own(s->conn, ops, s);
	return fds[1];
}

static void end(struct side *s, int fd)
{
	conn_free(s->conn);
	json_decref(s->last);
	if (fd >= 0)
		close(fd);
}

static size_t frame(uint8_t *buf, const char *text)
{
	conn_put_header(buf, CONN_JSON, strlen(text));
	memcpy(buf + CONN_HDR_BYTES, text, strlen(text));
	return CONN_HDR_BYTES + strlen(text);
}

static void test_parse_bounds(void **state)
{
	uint8_t buf[64];
	enum conn_kind kind;
	struct err e;
	size_t len = frame(buf, "{\"a\":1}");

	(void)state;
	for (size_t i = 0; i < len; i++)
		assert_int_equal(conn_parse(buf, i, &kind, &e), 0);
	assert_int_equal(conn_parse(buf, len, &kind, &e), len);
	assert_int_equal(kind, CONN_JSON);
	conn_put_header(buf, CONN_JSON, CONN_JSON_BYTES + 1);
	assert_int_equal(conn_parse(buf, CONN_HDR_BYTES, &kind, &e), -EPROTO);
	assert_has(e.text, "262145 bytes");
	conn_put_header(buf, CONN_BLOB, CONN_BLOB_BYTES);
	assert_int_equal(conn_parse(buf, CONN_HDR_BYTES, &kind, &e), 0);
	conn_put_header(buf, CONN_BLOB, CONN_BLOB_BYTES + 1);
	assert_int_equal(conn_parse(buf, CONN_HDR_BYTES, &kind, &e), -EPROTO);
	conn_put_header(buf, CONN_JSON, 4);
	buf[2] = 9;
	assert_int_equal(conn_parse(buf, CONN_HDR_BYTES, &kind, &e), -EPROTO);
	assert_has(e.text, "version 9");
	conn_put_header(buf, 7, 4);
	assert_int_equal(conn_parse(buf, CONN_HDR_BYTES, &kind, &e), -EPROTO);
	assert_int_equal(conn_parse((const uint8_t *)"GET / HT", 8, &kind, &e), -EPROTO);
}

static void test_parse_json(void **state)
{
	static const char *const bad[] = {"", "{", "[]", "1", "{\"a\":1,\"a\":2}", "{} {}",
		"{\"a\":\"\\u0000\"}", "{\"a\":\"\xff\"}", "{\"a\":nan}", "{\"a\":1e999}"};
	char deep[64] = "{\"a\":";
	struct err e;
	json_t *j;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		j = conn_parse_json((const uint8_t *)bad[i], strlen(bad[i]), &e);
		assert_null(j);
		assert_int_equal(e.errnum, EPROTO);
	}
	/* CONN_JSON_DEPTH brackets pass, one more does not; brackets in a text do not count. */
	memset(deep + 5, '[', CONN_JSON_DEPTH - 1);
	memset(deep + 5 + CONN_JSON_DEPTH - 1, ']', CONN_JSON_DEPTH - 1);
	strcpy(deep + 5 + 2 * (CONN_JSON_DEPTH - 1), "}");
	j = conn_parse_json((const uint8_t *)deep, strlen(deep), &e);
	assert_non_null(j);
	json_decref(j);
	memset(deep + 5, '[', CONN_JSON_DEPTH);
	memset(deep + 5 + CONN_JSON_DEPTH, ']', CONN_JSON_DEPTH);
	strcpy(deep + 5 + 2 * CONN_JSON_DEPTH, "}");
	assert_null(conn_parse_json((const uint8_t *)deep, strlen(deep), &e));
	assert_has(e.text, "deeper");
	j = conn_parse_json((const uint8_t *)"{\"a\":\"[[[[[[[[[[[[[[[[[[[[\\\"[\"}", 31, &e);
	assert_non_null(j);
	json_decref(j);
}

static void test_random_bytes(void **state)
{
	uint8_t buf[256];
	enum conn_kind kind;
	struct err e;

	(void)state;
	srand(1);
	for (int i = 0; i < 20000; i++) {
		size_t len = (size_t)rand() % sizeof(buf);
		json_t *j;

		for (size_t k = 0; k < len; k++)
			buf[k] = (uint8_t)rand();
		if (i % 2 == 0 && len >= 4)
			memcpy(buf, "\x67\x6d\x01\x01", 4);
		assert_true(conn_parse(buf, len, &kind, &e) <= (int64_t)len);
		j = conn_parse_json(buf, len, &e);
		json_decref(j);
	}
}

static void test_pieces(void **state)
{
	uint8_t buf[128];
	struct side s;
	int fd = make(&s, &no_blobs);
	size_t len = frame(buf, "{\"n\":1}");

	(void)state;
	len += frame(buf + len, "{\"n\":2}");
	for (size_t i = 0; i < len; i++) {
		assert_int_equal(write(fd, buf + i, 1), 1);
		harness_turn(base, 1);
	}
	assert_int_equal(s.jsons, 2);
	/* Both at once. */
	assert_int_equal(write(fd, buf, len), len);
	harness_turn(base, 10);
	assert_int_equal(s.jsons, 4);
	assert_int_equal(json_integer_value(json_object_get(s.last, "n")), 2);
	/* End of file amid a message. */
	assert_int_equal(write(fd, buf, 10), 10);
	close(fd);
	harness_run(base, &s.any);
	harness_turn(base, 10);
	assert_int_equal(s.closed, 1);
	assert_int_equal(s.why.errnum, ECONNRESET);
	end(&s, -1);
}

static void test_strangers(void **state)
{
	static const char *const texts[] = {"GET / HTTP/1.1\r\n\r\n", "{\"do\":\"list\"}"};
	uint8_t hdr[CONN_HDR_BYTES + 2] = {0};
	struct side s;
	int fd;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		fd = make(&s, &no_blobs);
		assert_true(write(fd, texts[i], strlen(texts[i])) > 0);
		harness_run(base, &s.any);
		assert_int_equal(s.closed, 1);
		assert_int_equal(s.why.errnum, EPROTO);
		end(&s, fd);
	}
	/* A blob where none may come: refused by its header. */
	fd = make(&s, &no_blobs);
	conn_put_header(hdr, CONN_BLOB, CONN_BLOB_BYTES);
	assert_int_equal(write(fd, hdr, CONN_HDR_BYTES), CONN_HDR_BYTES);
	harness_run(base, &s.any);
	assert_int_equal(s.why.errnum, EPROTO);
	end(&s, fd);
	/* Text that is no JSON. */
	fd = make(&s, &no_blobs);
	conn_put_header(hdr, CONN_JSON, 2);
	assert_int_equal(write(fd, hdr, sizeof(hdr)), sizeof(hdr));
	harness_run(base, &s.any);
	assert_int_equal(s.why.errnum, EPROTO);
	assert_int_equal(s.jsons, 0);
	end(&s, fd);
}

static void test_blobs_between_two(void **state)
{
	static uint8_t data[CONN_BLOB_BYTES];
	struct side a, b;
	struct err e;
	int fd = make(&a, &with_blobs);

	(void)state;
	memset(&b, 0, sizeof(b));
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)i;
	assert_int_equal(conn_send_blob(a.conn, data, sizeof(data)), 0);
	assert_int_equal(conn_send(a.conn, json_pack("{s:i}", "n", 7)), 0);
	assert_int_equal(conn_send_blob(a.conn, data, 0), 0);
	assert_true(conn_backlog(a.conn) > sizeof(data));
	b.conn = conn_new(base, fd, NULL, &e);
	harness_turn(base, 20);
	assert_false(b.any); /* nobody owns it, nothing is read */
	conn_own(b.conn, &with_blobs, &b);
	harness_until(base, b.blobs >= 2);
	assert_int_equal(b.blobs, 2);
	assert_int_equal(b.jsons, 1);
	assert_int_equal(b.blob_bytes, 0);
	assert_int_equal(conn_backlog(a.conn), 0);
	assert_has(conn_peer_name(b.conn), "uid ");
	end(&a, -1);
	harness_run(base, &b.any);
	harness_turn(base, 10);
	assert_int_equal(b.closed, 1);
	end(&b, -1);
}

static void test_slow_reader(void **state)
{
	static uint8_t data[CONN_BLOB_BYTES];
	struct side s;
	int fd = make(&s, &with_blobs), rc = 0, n = 0;

	(void)state;
	while (rc == 0 && n++ < 100)
		rc = conn_send_blob(s.conn, data, sizeof(data));
	assert_int_equal(rc, -ENOBUFS);
	assert_true(n > 60 && n < 66);
	assert_int_equal(s.closed, 0); /* never from within conn_send() */
	assert_int_equal(conn_send(s.conn, json_object()), -EPIPE);
	harness_run(base, &s.any);
	assert_int_equal(s.closed, 1);
	assert_has(s.why.text, "too slowly");
	end(&s, fd);
}

static void test_too_long(void **state)
{
	struct side s;
	int fd = make(&s, &with_blobs);
	char *text = malloc(CONN_JSON_BYTES + 1);

	(void)state;
	memset(text, 'x', CONN_JSON_BYTES);
	text[CONN_JSON_BYTES] = '\0';
	assert_int_equal(conn_send(s.conn, json_pack("{s:s}", "a", text)), -EMSGSIZE);
	free(text);
	harness_run(base, &s.any);
	assert_int_equal(s.closed, 1);
	end(&s, fd);
}

static void test_free_in_callback(void **state)
{
	uint8_t buf[128];
	struct side s;
	int fd = make(&s, &no_blobs);
	size_t len = frame(buf, "{\"n\":1}");

	(void)state;
	len += frame(buf + len, "{\"n\":2}");
	s.free_in_json = true;
	assert_int_equal(write(fd, buf, len), len);
	harness_run(base, &s.any);
	harness_turn(base, 10);
	assert_int_equal(s.jsons, 1); /* the second is not delivered any more */
	assert_int_equal(s.closed, 0);
	end(&s, fd);
}

static void test_last_words(void **state)
{
	uint8_t buf[64];
	struct side s;
	int fd = make(&s, &no_blobs);

	(void)state;
	assert_int_equal(conn_send(s.conn, json_pack("{s:i}", "n", 1)), 0);
	conn_free(s.conn); /* at once: what is queued still goes out */
	s.conn = NULL;
	assert_int_equal(read(fd, buf, sizeof(buf)), CONN_HDR_BYTES + 7);
	assert_int_equal(read(fd, buf, sizeof(buf)), 0);
	end(&s, fd);
}

static void test_broken_before_owned(void **state)
{
	struct side s;
	int fd = make(&s, NULL);

	(void)state;
	close(fd);
	harness_turn(base, 10);
	conn_own(s.conn, &no_blobs, &s);
	harness_run(base, &s.any);
	assert_int_equal(s.closed, 1);
	end(&s, -1);
	conn_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_bounds),
		cmocka_unit_test(test_parse_json),
		cmocka_unit_test(test_random_bytes),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_strangers),
		cmocka_unit_test(test_blobs_between_two),
		cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_free_in_callback),
		cmocka_unit_test(test_last_words),
		cmocka_unit_test(test_broken_before_owned),
	};
	int rc;

	signal(SIGPIPE, SIG_IGN); /* as godwitd does */
	base = event_base_new();
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	event_base_free(base);
	return rc;
}
