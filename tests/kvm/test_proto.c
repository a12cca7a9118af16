// SPDX-License-Identifier: BSD-3-Clause
// The agent protocol's bytes: what goes in comes out, and anything else is refused.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent_proto.h"
#include "seed.h"

static struct region_map map;

static void round_trip(void **state)
{
	struct agent_msg m = {.type = AGENT_ARM | AGENT_ANSWER, .seq = 0x01020304, .status = -16};
	struct agent_msg back;
	uint8_t buf[AGENT_MSG_BYTES];
	struct err e;
	size_t len;

	(void)state;
	m.a = UINT64_C(0x1122334455667788);
	m.b = ~UINT64_C(0);
	m.body_bytes = AGENT_BODY_BYTES;
	memset(m.body, 0x5a, sizeof(m.body));
	len = agent_encode(&m, buf);
	assert_int_equal(len, AGENT_MSG_BYTES);
	/* Little-endian, as the header says. */
	assert_memory_equal(buf, "GWA1\x03\x00\x06\x80\x04\x03\x02\x01\xf0\xff\xff\xff", 16);
	assert_int_equal(agent_decode(&back, buf, len, &e), 0);
	assert_int_equal(back.type, m.type);
	assert_int_equal(back.seq, m.seq);
	assert_int_equal(back.status, m.status);
	assert_int_equal(back.a, m.a);
	assert_int_equal(back.b, m.b);
	assert_int_equal(back.body_bytes, m.body_bytes);
	assert_memory_equal(back.body, m.body, m.body_bytes);
	/* A body that says it is longer is cut. */
	m.body_bytes = SIZE_MAX;
	assert_int_equal(agent_encode(&m, buf), AGENT_MSG_BYTES);
}

static void bad_headers(void **state)
{
	struct agent_msg m = {.type = AGENT_PING}, back;
	uint8_t buf[AGENT_MSG_BYTES + 1] = {0}, bad[AGENT_MSG_BYTES + 1];
	struct err e;
	size_t len = agent_encode(&m, buf);

	(void)state;
	assert_int_equal(len, AGENT_HDR_BYTES);
	for (size_t n = 0; n < len; n++)
		assert_int_equal(agent_decode(&back, buf, n, &e), -EPROTO);
	assert_int_equal(agent_decode(&back, buf, AGENT_MSG_BYTES, &e), 0);
	assert_int_equal(agent_decode(&back, buf, AGENT_MSG_BYTES + 1, &e), -EPROTO);
	for (unsigned i = 0; i < 8; i++) {
		memcpy(bad, buf, len);
		bad[i] ^= 0x40; /* magic, version, type */
		assert_int_equal(agent_decode(&back, bad, len, &e), -EPROTO);
	}
}

static void fill_region(struct region *r, struct agent_msg *m, unsigned views)
{
	memset(r, 0, sizeof(*r));
	memset(r->name, 'n', REGION_NAME - 1);
	r->bytes = 64 * PAGE_BYTES;
	r->page_bytes = 4096;
	r->nviews = views;
	for (unsigned i = 0; i < views; i++)
		r->views[i] = (struct view){i * PAGE_BYTES, i * PAGE_BYTES, PAGE_BYTES, i, i % 2};
	agent_put_region(m, r);
	m->fd = memfd_create("r", MFD_CLOEXEC);
	assert_return_code(ftruncate(m->fd, (off_t)r->bytes), errno);
}

static void regions(void **state)
{
	static struct region r;
	struct agent_msg m = {.type = AGENT_REGION};
	struct err e;

	(void)state;
	fill_region(&r, &m, REGION_VIEWS);
	assert_int_equal(agent_get_region(&m, &map, &e), 0);
	assert_int_equal(m.fd, -1);
	assert_int_equal(map.n, 1);
	assert_string_equal(map.r[0].name, r.name);
	assert_memory_equal(map.r[0].views, r.views, sizeof(r.views));
	/* The name is taken; the fd is closed all the same, and nothing was added. */
	fill_region(&r, &m, 1);
	assert_int_equal(agent_get_region(&m, &map, &e), -EPROTO);
	assert_int_equal(m.fd, -1);
	assert_int_equal(map.n, 1);
	region_map_close(&map);
}

static void bad_regions(void **state)
{
	static struct region r;
	struct agent_msg m = {.type = AGENT_REGION};
	struct err e;

	(void)state;
	for (unsigned i = 0; i < 9; i++) {
		fill_region(&r, &m, 3);
		switch (i) {
		case 0: /* no file */
			close_fd(&m.fd);
			break;
		case 1: /* a file that is shorter */
			assert_return_code(ftruncate(m.fd, 63 * PAGE_BYTES), errno);
			break;
		case 2: /* more views than are there */
			m.b += UINT64_C(1) << 32;
			break;
		case 3: /* fewer */
			m.b -= UINT64_C(1) << 32;
			break;
		case 4: /* far too many */
			m.b |= UINT64_C(0xffffffff) << 32;
			break;
		case 5: /* cut */
			m.body_bytes -= 1;
			break;
		case 6: /* a page size that is none */
			m.b ^= 1;
			break;
		case 7: /* a view past the end */
			memset(m.body + REGION_NAME + 8, 0xf0, 8);
			break;
		case 8: /* no name */
			m.body[0] = 0;
			break;
		}
		assert_int_equal(agent_get_region(&m, &map, &e), -EPROTO);
		assert_int_equal(m.fd, -1);
		assert_int_equal(map.n, 0);
		assert_int_equal(map.nchunks, 0);
	}
}

static void hellos(void **state)
{
	struct agent_hello h = {.name = "g",
		.tracker = "kvm-log",
		.mode = "manual protect, initially set",
		.hypervisor = "kvm",
		.nregions = 3,
		.pid = 4,
		.granule_bytes = 4096};
	struct agent_hello back;
	struct agent_msg m = {.type = AGENT_HELLO};
	struct err e;

	(void)state;
	agent_put_hello(&m, &h);
	assert_int_equal(m.body_bytes, 192);
	assert_int_equal(agent_get_hello(&m, &back, &e), 0);
	assert_memory_equal(&h, &back, sizeof(h));
	m.body_bytes = 191;
	assert_int_equal(agent_get_hello(&m, &back, &e), -EPROTO);
	h.nregions = REGION_MAX + 1;
	agent_put_hello(&m, &h);
	assert_int_equal(agent_get_hello(&m, &back, &e), -EPROTO);
}

/* Random bodies: never more than a refusal, and no descriptor stays open. */
static void random_bodies(void **state)
{
	struct seed rng = {1};
	struct err e;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		struct agent_msg m = {.type = AGENT_REGION, .fd = -1};

		m.body_bytes = seed_below(&rng, AGENT_BODY_BYTES + 1);
		seed_fill(&rng, m.body, m.body_bytes < 300 ? m.body_bytes : 300);
		m.a = seed_next(&rng) >> seed_below(&rng, 64);
		m.b = seed_next(&rng) >> seed_below(&rng, 64);
		assert_int_equal(agent_get_region(&m, &map, &e), -EPROTO);
		assert_int_equal(map.n, 0);
	}
}

static unsigned open_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 200; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Two descriptors in one packet: refused, and none is left. */
static void send_two_fds(int sock)
{
	union {
		char buf[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	int fds[2] = {0, 1};
	struct agent_msg m = {.type = AGENT_PING};
	uint8_t buf[AGENT_MSG_BYTES];
	struct iovec iov = {buf, agent_encode(&m, buf)};
	struct msghdr h = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	assert_true(sendmsg(sock, &h, 0) > 0);
}

static void sockets(void **state)
{
	struct agent_msg m = {.type = AGENT_LOAD, .seq = 9, .fd = 0}, back;
	uint8_t big[AGENT_MSG_BYTES + 1] = {0};
	unsigned before = open_fds();
	struct err e;
	int s[2];

	(void)state;
	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, s), errno);
	assert_int_equal(agent_recv(s[1], &back, &e), -EAGAIN);
	assert_int_equal(agent_send(s[0], &m), 0);
	assert_int_equal(agent_recv(s[1], &back, &e), 0);
	assert_int_equal(back.seq, 9);
	assert_true(back.fd > 0);
	assert_true(fcntl(back.fd, F_GETFD) & FD_CLOEXEC);
	close(back.fd);
	m.fd = -1;
	assert_int_equal(agent_send(s[0], &m), 0);
	assert_int_equal(agent_recv(s[1], &back, &e), 0);
	assert_int_equal(back.fd, -1);
	send_two_fds(s[0]);
	assert_int_equal(agent_recv(s[1], &back, &e), -EPROTO);
	assert_int_equal(send(s[0], big, sizeof(big), 0), sizeof(big));
	assert_int_equal(agent_recv(s[1], &back, &e), -EPROTO);
	close(s[0]);
	assert_int_equal(agent_recv(s[1], &back, &e), -EPIPE);
	assert_int_equal(agent_send(s[1], &m), -EPIPE);
	close(s[1]);
	assert_int_equal(open_fds(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(bad_headers),
		cmocka_unit_test(regions),
		cmocka_unit_test(bad_regions),
		cmocka_unit_test(hellos),
		cmocka_unit_test(random_bodies),
		cmocka_unit_test(sockets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
