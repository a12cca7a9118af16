// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: what a daemon that was taken over asks of godwit-attach, which has rights that the
// daemon has not. Whatever is asked, an answer is a descriptor or a sentence, and a question that
// is none ends the conversation. The process that is asked about is the target's own child.
//
// A question is eight bytes (the operation; whom it is about; how many files; which descriptor
// comes along; patience; which member is spoilt, and how; the bytes of text behind), then the text:
// a path, and a file of the list.

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attach_ram.h"
#include "helper.h"
#include "helper_sock.h"
#include "sock_fd.h"

#define RAM_BYTES (1u << 20)
#define QUESTIONS 2u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static pid_t victim;
static int victim_fd = -1;
static struct attach_file ram; // as the helper told it

static void end_victim(void)
{
	kill(victim, SIGKILL);
	waitpid(victim, NULL, 0);
}

static void find_ram(void)
{
	struct attach_file *files;
	struct err e;
	unsigned n;

	for (unsigned tries = 0; tries < 1000 && ram.n == 0; tries++) {
		if (attach_list(NULL, victim, &files, &n, &e) < 0)
			abort();
		for (unsigned i = 0; i < n; i++)
			if (strcmp(files[i].path, "/memfd:ram") == 0)
				ram = files[i];
		free(files);
		usleep(1000);
	}
	if (ram.n == 0)
		abort();
}

static void start_victim(void)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, RAM_BYTES) != 0)
		abort();
	victim = fork();
	if (victim == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED)
			_exit(1);
		for (;;)
			pause();
	}
	close(fd);
	victim_fd = (int)syscall(SYS_pidfd_open, victim, 0);
	if (victim < 0 || victim_fd < 0)
		abort();
	atexit(end_victim);
	find_ram();
}

// A list of one file, whose first bytes are the text's; or the process; or nothing.
static int along(uint8_t which, const struct attach_file *f)
{
	switch (which % 4) {
	case 0:
		return -1;
	case 1:
		return dup(victim_fd);
	default:
		return helper_put_list(f, sizeof(*f));
	}
}

static void ask(int sock, const uint8_t *how, const uint8_t *text, size_t bytes)
{
	static const pid_t who[] = {0, -1, INT32_MAX};
	static struct helper_ask q;
	struct attach_file f = ram;
	int with;

	memset(&q, 0, sizeof(q));
	q.magic = HELPER_MAGIC;
	q.op = how[0] % (HELPER_OPS + 1);
	q.pid = how[1] < 200 ? victim : who[how[1] % 3];
	q.n = q.op == HELPER_CHECK ? how[2] % 3 : 0;
	q.patience_ms = how[4];
	q.file = ram;
	memcpy(q.path, text, bytes);
	if ((how[5] & 1) != 0)
		memcpy((uint8_t *)&q.file + how[6] * 8u, text, bytes);
	if ((how[5] & 2) != 0)
		memcpy((uint8_t *)&f + how[6] * 8u, text, bytes);
	if ((how[5] & 4) != 0)
		memset(q.path, 'x', sizeof(q.path));
	if ((how[5] & 8) != 0)
		memcpy(&q, text, bytes < 8 ? bytes : 8); // magic and operation
	with = along(how[3], &f);
	if (sock_fd_send(sock, &q, sizeof(q), with) < 0)
		abort();
	if (with >= 0)
		close(with);
}

static void listen_to(int sock)
{
	struct helper_answer a;
	int fd;

	while (helper_recv(sock, &a, sizeof(a), &fd) == 1) {
		if (a.magic != HELPER_MAGIC || a.status > 0 || (a.status < 0) != (fd < 0) ||
			(a.status < 0 && a.why.text[0] == '\0') ||
			memchr(a.why.text, '\0', sizeof(a.why.text)) == NULL)
			abort();
		close_fd(&fd);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *at = data, *end = data + size;
	int sv[2];

	_Static_assert(
		sizeof(struct attach_file) > 255 * 8 + 255, "what is spoilt is inside of it");
	if (victim == 0)
		start_victim();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) != 0)
		abort();
	for (unsigned n = 0; n < QUESTIONS && end - at >= 8; n++) {
		size_t bytes = at[7] < end - at - 8 ? at[7] : (size_t)(end - at - 8);

		ask(sv[0], at, at + 8, bytes);
		at += 8 + bytes;
	}
	shutdown(sv[0], SHUT_WR);
	helper_serve(sv[1]);
	close(sv[1]);
	listen_to(sv[0]);
	close(sv[0]);
	return 0;
}
