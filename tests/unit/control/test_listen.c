// SPDX-License-Identifier: BSD-3-Clause
// listen.c and preamble.c: what comes through, and what does not. With a number: of a flood.

#include "harness.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#include "listen.h"
#include "stranger.h"

#define FLOOD      5000
#define AT_ONCE    (LISTEN_HALF_OPEN * 2) /* connections of the flood */
#define LINE_BYTES 512                    /* of the log, on average, at most */

static unsigned flood = FLOOD;

static struct event_base *base;
static struct listen *l;
static int accepted;
static bool any;
static struct preamble last;

static void on_conn(void *arg, int fd, struct tls *tls, const struct preamble *p)
{
	(void)arg;
	assert_null(tls);
	accepted++;
	any = true;
	last = *p;
	close(fd);
}

static int setup(void **state)
{
	struct err e;

	(void)state;
	accepted = 0;
	any = false;
	return listen_new(&l, base, "127.0.0.1:0", on_conn, NULL, &e);
}

static int teardown(void **state)
{
	(void)state;
	listen_free(l);
	return 0;
}

static int dial_from(uint32_t address)
{
	struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
	struct sockaddr_in to = {.sin_family = AF_INET,
		.sin_port = htons(listen_port(l)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static int dial(void)
{
	return dial_from(INADDR_LOOPBACK);
}

/* The other side closed fd: end of file or reset. */
static bool is_closed(int fd)
{
	char c;
	ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);

	return n == 0 || (n < 0 && errno != EAGAIN);
}

static void test_preamble(void **state)
{
	struct preamble p = {.kind = PREAMBLE_FLOW, .token = {1, 2, 3}, .flow = 5}, q;
	uint8_t buf[PREAMBLE_BYTES], bad[PREAMBLE_BYTES];
	static const unsigned at[] = {0, 4, 6, 28};
	struct err e;

	(void)state;
	preamble_encode(&p, buf);
	assert_int_equal(preamble_decode(&q, buf, &e), 0);
	assert_int_equal(q.flow, 5);
	assert_memory_equal(q.token, p.token, TOKEN_BYTES);
	for (size_t i = 0; i < 4; i++) {
		memcpy(bad, buf, sizeof(bad));
		bad[at[i]] ^= 0x40;
		assert_int_equal(preamble_decode(&q, bad, &e), -EPROTO);
	}
	p.kind = PREAMBLE_CONTROL;
	preamble_encode(&p, buf);
	assert_int_equal(preamble_decode(&q, buf, &e), -EPROTO);
}

static void test_pieces(void **state)
{
	struct preamble p = {.kind = PREAMBLE_FLOW, .flow = 3};
	uint8_t buf[PREAMBLE_BYTES + 1];
	int fd = dial();

	(void)state;
	preamble_encode(&p, buf);
	for (unsigned i = 0; i < PREAMBLE_BYTES; i++) {
		assert_int_equal(send(fd, buf + i, 1, 0), 1);
		harness_turn(base, 1);
	}
	harness_run(base, &any);
	assert_int_equal(accepted, 1);
	assert_int_equal(last.flow, 3);
	close(fd);
}

static void test_stranger(void **state)
{
	int fd = dial();

	(void)state;
	assert_int_equal(send(fd, "GET / HTTP/1.1\r\nHost: example.org\r\n", 35, 0), 35);
	harness_until(base, is_closed(fd));
	assert_int_equal(accepted, 0);
	close(fd);
}

static void test_silent_crowd(void **state)
{
	struct preamble p = {.kind = PREAMBLE_CONTROL};
	uint8_t buf[PREAMBLE_BYTES];
	int fds[LISTEN_HALF_OPEN + 4], honest;

	(void)state;
	for (unsigned i = 0; i < LISTEN_HALF_OPEN + 4; i++)
		fds[i] = dial();
	harness_turn(base, 50);
	honest = dial();
	preamble_encode(&p, buf);
	assert_int_equal(send(honest, buf, sizeof(buf), 0), sizeof(buf));
	harness_run(base, &any);
	assert_int_equal(accepted, 1);
	assert_true(is_closed(fds[0])); /* the oldest made room */
	assert_true(is_closed(fds[4]));
	assert_false(is_closed(fds[5]));
	for (unsigned i = 0; i < LISTEN_HALF_OPEN + 4; i++)
		close(fds[i]);
	close(honest);
}

/* Who comes in a crowd makes room for it himself. */
static void test_crowd_of_one_host(void **state)
{
	int other = dial_from(INADDR_LOOPBACK + 1), fds[LISTEN_HALF_OPEN + 4];

	(void)state;
	harness_turn(base, 10);
	for (unsigned i = 0; i < LISTEN_HALF_OPEN + 4; i++)
		fds[i] = dial();
	harness_until(base, is_closed(fds[4]));
	harness_turn(base, 50);
	assert_false(is_closed(other));
	assert_false(is_closed(fds[5]));
	for (unsigned i = 0; i < LISTEN_HALF_OPEN + 4; i++)
		close(fds[i]);
	close(other);
}

/* The deadline is for the whole preamble: a byte now and then does not put it off. */
static void test_deadline(void **state)
{
	int fd = dial(), i;

	(void)state;
	for (i = 0; i < 100 * LISTEN_WAIT_S * 2 && !is_closed(fd); i++) {
		if (i % 100 == 0)
			assert_int_equal(send(fd, "G", 1, MSG_NOSIGNAL), 1);
		harness_turn(base, 10);
	}
	assert_true(is_closed(fd));
	assert_int_equal(accepted, 0);
	close(fd);
}

static unsigned open_files(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

/* Says something else than a peer, from one of many addresses: nothing, what is none, the beginning
 * of a preamble, or all of it and no more. */
static int flood_one(unsigned i)
{
	struct preamble p = {.kind = PREAMBLE_CONTROL};
	const struct linger reset = {.l_onoff = 1}; /* and no port waits for its last packets */
	int fd = dial_from(INADDR_LOOPBACK + 1 + i % 50000);
	uint8_t buf[PREAMBLE_BYTES];
	static const unsigned how_much[] = {0, sizeof(buf), 10, sizeof(buf)};

	preamble_encode(&p, buf);
	if (i % 4 == 1)
		buf[0] = 'X';
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	assert_true(send(fd, buf, how_much[i % 4], MSG_NOSIGNAL) >= 0 || errno == ECONNRESET ||
		    errno == EPIPE);
	return fd;
}

/* Files, memory and the log stay within bounds, however many come; and an honest peer gets in. */
static void test_flood(void **state)
{
	int log = memfd_create("log", MFD_CLOEXEC), err = dup(STDERR_FILENO), fds[AT_ONCE];
	int honest;
	unsigned files = open_files(), peers = flood / 4;
	size_t used = 0, most_used = 0;
	time_t began = time(NULL);

	(void)state;
	assert_true(dup2(log, STDERR_FILENO) >= 0);
	for (unsigned i = 0; i < AT_ONCE; i++) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		fds[i] = flood_one(i);
	}
	for (unsigned i = 0; i < flood; i++) {
		if (i % 8 == 0)
			event_base_loop(base, EVLOOP_NONBLOCK);
		close(fds[i % AT_ONCE]);
		fds[i % AT_ONCE] = flood_one(i);
		if (i % 1000 != 999)
			continue;
		assert_true(open_files() <= files + AT_ONCE + LISTEN_HALF_OPEN + 32);
		used = used == 0 ? mallinfo2().uordblks : used;
		most_used = mallinfo2().uordblks > most_used ? mallinfo2().uordblks : most_used;
	}
	harness_turn(base, 20);
	assert_true(most_used <= used + (256 << 10));
	assert_true(lseek(log, 0, SEEK_END) <
		    (time(NULL) - began + 2) * (STRANGER_LINES_PER_S + 1) * LINE_BYTES);
	assert_true(dup2(err, STDERR_FILENO) >= 0);
	assert_true(accepted > (int)(peers / 2) && accepted <= (int)(peers + AT_ONCE));
	accepted = 0;
	any = false;
	honest = flood_one(3);
	harness_run(base, &any);
	close(honest);
	for (unsigned i = 0; i < AT_ONCE; i++)
		close(fds[i]);
	harness_turn(base, 20);
	close(log);
	close(err);
	assert_true(open_files() <= files);
}

static void test_addresses(void **state)
{
	static const char *const bad[] = {
		"", "::1:1", "127.0.0.1:70000", "127.0.0.1:x", "[::1", "a b:1"};
	char address[32];
	struct listen *other;
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(listen_new(&other, base, bad[i], on_conn, NULL, &e), -EINVAL);
	snprintf(address, sizeof(address), "127.0.0.1:%u", listen_port(l));
	assert_int_equal(listen_new(&other, base, address, on_conn, NULL, &e), -EADDRINUSE);
	assert_has(e.text, "is in use");
	assert_has(e.text, "--listen");
	assert_int_equal(
		listen_new(&other, base, "192.0.2.1:0", on_conn, NULL, &e), -EADDRNOTAVAIL);
	assert_int_equal(listen_new(&other, base, ":0", on_conn, NULL, &e), 0);
	assert_true(listen_port(other) != 0);
	listen_free(other);
	listen_free(NULL);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest floods[] = {
		cmocka_unit_test_setup_teardown(test_flood, setup, teardown),
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_preamble),
		cmocka_unit_test_setup_teardown(test_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stranger, setup, teardown),
		cmocka_unit_test_setup_teardown(test_silent_crowd, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crowd_of_one_host, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flood, setup, teardown),
		cmocka_unit_test_setup_teardown(test_addresses, setup, teardown),
	};
	int rc;

	base = event_base_new();
	flood = argc > 1 ? (unsigned)atoi(argv[1]) : FLOOD;
	rc = argc > 1 ? cmocka_run_group_tests(floods, NULL, NULL)
		      : cmocka_run_group_tests(tests, NULL, NULL);
	event_base_free(base);
	return rc;
}
