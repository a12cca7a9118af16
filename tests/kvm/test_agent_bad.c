// SPDX-License-Identifier: BSD-3-Clause
// libgodwit against daemons that are one too many, silent, deaf or talk rubbish, and against what a
// VMM gets wrong: the guest never minds.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "seed.h"
#include "vmm.h"

#define ASK(sock, type, a) vmm_ask(sock, type, a, 0, -1, NULL)

static struct vmm vmm;

static void one_daemon_at_once(void **state)
{
	struct agent_msg m;
	int sock = vmm_start(&vmm, 0), second = vmm_connect(&vmm), third = vmm_connect(&vmm);

	(void)state;
	/* One that connects and is silent keeps nobody out. */
	assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
	assert_int_equal(vmm_ask(second, AGENT_HELLO, AGENT_VERSION, 0, -1, &m), -EBUSY);
	assert_true(m.body_bytes > 10);
	assert_int_equal(ASK(sock, AGENT_PING, 0), 0);
	close(second);
	close(sock);
	assert_int_equal(vmm_hello(third, NULL, NULL), 0);
	close(third);
	vmm_close(&vmm);
}

static void silent_crowd(void **state)
{
	int socks[20];
	int sock = vmm_start(&vmm, 0);

	(void)state;
	for (unsigned i = 0; i < 20; i++)
		socks[i] = vmm_connect(&vmm);
	close(sock);
	sock = vmm_connect(&vmm);
	assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
	for (unsigned i = 0; i < 20; i++)
		close(socks[i]);
	assert_int_equal(ASK(sock, AGENT_PING, 0), 0);
	close(sock);
	vmm_close(&vmm);
}

static void bad_daemons(void **state)
{
	static const uint8_t head[6] = {'G', 'W', 'A', '1', AGENT_VERSION};
	struct seed rng = {5};
	struct agent_msg m;
	struct err e;
	uint8_t buf[AGENT_MSG_BYTES + 64];
	int sock = vmm_start(&vmm, 0);

	(void)state;
	/* No hello first; a hello of another version. */
	assert_int_equal(ASK(sock, AGENT_PAUSE, 0), -EPROTO);
	close(sock);
	sock = vmm_connect(&vmm);
	assert_int_equal(ASK(sock, AGENT_HELLO, 99), -EPROTONOSUPPORT);
	close(sock);
	/* Paused, then rubbish: the session ends, so the lease ends. */
	sock = vmm_connect(&vmm);
	assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
	assert_int_equal(ASK(sock, AGENT_PAUSE, 0), 0);
	assert_int_equal(send(sock, "rubbish", 7, 0), 7);
	assert_int_equal(agent_recv(sock, &m, &e), 0);
	assert_int_equal(m.status, -EPROTO);
	assert_int_equal(agent_recv(sock, &m, &e), -EPIPE);
	close(sock);
	assert_int_equal(vmm_wait(&vmm, GODWIT_RUNNING), 0);
	/* Random and oversized packets, before and after hello. */
	for (unsigned i = 0; i < 300; i++) {
		size_t len = 1 + seed_below(&rng, sizeof(buf));

		sock = vmm_connect(&vmm);
		assert_true(sock >= 0);
		seed_fill(&rng, buf, len);
		if (i % 2)
			assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
		if (i % 3 && len >= 8)
			memcpy(buf, head, sizeof(head));
		send(sock, buf, len, MSG_NOSIGNAL);
		close(sock);
	}
	sock = vmm_connect(&vmm);
	assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
	assert_int_equal(godwit_get_state(vmm.g), GODWIT_RUNNING);
	close(sock);
	vmm_close(&vmm);
}

/* A daemon that asks and never takes its answers: godwit_free is not kept waiting by it. */
static void deaf_daemon(void **state)
{
	struct agent_msg ask = {.type = AGENT_PING, .fd = -1};
	int sock = vmm_start(&vmm, 0);

	(void)state;
	assert_int_equal(vmm_hello(sock, NULL, NULL), 0);
	fcntl(sock, F_SETFL, O_NONBLOCK);
	for (unsigned i = 0; i < 5000; i++)
		agent_send(sock, &ask);
	vmm_close(&vmm);
	close(sock);
}

static int stale_socket(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	assert_return_code(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void start_refusals(void **state)
{
	static const struct godwit_ops none;
	struct godwit_config c = {.api_version = 0, .name = "x", .socket = "/tmp/x", .vm_fd = -1};
	char why[256] = "", path[108];
	struct vmm other;
	int fd;

	(void)state;
	assert_null(godwit_new(&c, why, sizeof(why)));
	assert_int_equal(errno, EINVAL);
	assert_true(strlen(why) > 10);
	c.api_version = GODWIT_API_VERSION;
	c.ops = &none;
	assert_null(godwit_new(&c, NULL, 0));
	/* A socket that somebody listens on is not taken; its owner removes it at its end. */
	close(vmm_start(&vmm, 0));
	snprintf(path, sizeof(path), "%s", vmm.path);
	assert_int_equal(vmm_open_at(&other, path, 0, why), -EADDRINUSE);
	vmm_close(&other);
	assert_int_equal(access(path, F_OK), 0);
	vmm_close(&vmm);
	assert_int_equal(access(path, F_OK), -1);
	/* A file is never replaced; a socket that nobody listens on is. */
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(vmm_open_at(&other, path, 0, why), -EEXIST);
	vmm_close(&other);
	unlink(path);
	fd = stale_socket(path);
	assert_int_equal(vmm_open_at(&other, path, 0, why), 0);
	vmm_close(&other);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_daemon_at_once),
		cmocka_unit_test(silent_crowd),
		cmocka_unit_test(bad_daemons),
		cmocka_unit_test(deaf_daemon),
		cmocka_unit_test(start_refusals),
	};
	char why[256] = "";

	if (vmm_open(&vmm, 0, why) < 0) {
		printf("no VMM without KVM here: %s\n", why);
		return 77;
	}
	vmm_close(&vmm);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
