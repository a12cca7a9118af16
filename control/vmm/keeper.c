// SPDX-License-Identifier: BSD-3-Clause
// The daemon's side of the keeper. Run by the thread of a QEMU's driver. Invariant: a list counts
// once the keeper has acknowledged it; a keeper that does not is killed, so that what it will do is
// always known.

#include "keeper.h"

#include "beside.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define ACK_SLICE_MS 100
#define ACK_SLICES   200

struct keeper {
	int sock;
	pid_t pid; /* 0: it has ended, and was waited for */
};

#define WHY "gives a guest back if godwitd dies"

int keeper_check(struct err *e)
{
	char path[BESIDE_BYTES];

	return beside_find("godwit-keeper", WHY, path, e);
}

static int spawn(struct keeper *k, int sock, int qmp_fd, struct err *e)
{
	char path[BESIDE_BYTES], *argv[] = {path, NULL}, *env[] = {NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none;
	int rc = beside_find("godwit-keeper", WHY, path, e);

	if (rc < 0)
		return rc;
	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	/* A session of its own: what ends the daemon's terminal or group does not end it. */
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, sock, KEEPER_FD);
	posix_spawn_file_actions_adddup2(&files, qmp_fd, KEEPER_QMP_FD);
	posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	rc = posix_spawn(&k->pid, path, &files, &attr, argv, env);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	return rc == 0 ? 0 : err_sys(e, rc, "cannot start %s", path);
}

int keeper_new(struct keeper **out, int qmp_fd, struct err *e)
{
	struct keeper *k = calloc(1, sizeof(*k));
	int sv[2], rc;

	*out = NULL;
	if (k == NULL || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0) {
		free(k);
		return err_sys(e, errno, "cannot make a socket for the keeper");
	}
	k->sock = sv[0];
	rc = spawn(k, sv[1], qmp_fd, e);
	close(sv[1]);
	if (rc == 0) {
		json_t *nothing = json_array();

		rc = keeper_tell(k, nothing, e);
		json_decref(nothing);
	}
	if (rc < 0) {
		keeper_free(k);
		return rc;
	}
	*out = k;
	return 0;
}

static void end(struct keeper *k)
{
	if (k->pid > 0) {
		kill(k->pid, SIGKILL);
		waitpid(k->pid, NULL, 0);
		k->pid = 0;
	}
}

/* It did not answer: its end makes certain that it will do nothing. */
static int end_it(struct keeper *k, int errnum, struct err *e)
{
	end(k);
	return err_sys(e, errnum,
		"godwit-keeper, which gives the guest back if godwitd dies, does not answer");
}

/* In slices, and no time of day: on a host that stood still, as one does while it is moved itself,
 * one slice has passed, and the keeper had no more of the CPU than this thread. */
static bool await_ack(int sock)
{
	struct pollfd p = {.fd = sock, .events = POLLIN};
	int n = 0;

	for (unsigned i = 0; i < ACK_SLICES && (n == 0 || (n < 0 && errno == EINTR)); i++)
		n = poll(&p, 1, ACK_SLICE_MS);
	return n > 0;
}

int keeper_tell(struct keeper *k, const json_t *commands, struct err *e)
{
	char *text, ack;
	ssize_t n;

	if (k->pid == 0)
		return end_it(k, EPIPE, e);
	text = json_dumps(commands, JSON_COMPACT);
	if (text == NULL || strlen(text) > KEEPER_BYTES) {
		free(text);
		return end_it(k, E2BIG, e);
	}
	n = send(k->sock, text, strlen(text), MSG_NOSIGNAL);
	free(text);
	if (n < 0)
		return end_it(k, errno, e);
	if (!await_ack(k->sock))
		return end_it(k, ETIMEDOUT, e);
	if (recv(k->sock, &ack, 1, MSG_DONTWAIT) != 1)
		return end_it(k, EPIPE, e);
	return 0;
}

bool keeper_there(const struct keeper *k)
{
	struct pollfd p = {.events = POLLIN};

	if (k == NULL || k->pid == 0)
		return false;
	p.fd = k->sock;
	/* It says nothing but its word for a list, and that was taken: what comes is its end. */
	return poll(&p, 1, 0) == 0;
}

static void *await(void *arg)
{
	waitpid((pid_t)(intptr_t)arg, NULL, 0);
	return NULL;
}

void keeper_free(struct keeper *k)
{
	pthread_t thread;

	if (k == NULL)
		return;
	close(k->sock);
	/* It may be at work for a while yet; nobody waits for that but a thread of its own. */
	if (k->pid > 0 && pthread_create(&thread, NULL, await, (void *)(intptr_t)k->pid) == 0)
		pthread_detach(thread);
	free(k);
}

void keeper_end(struct keeper *k)
{
	if (k == NULL)
		return;
	end(k);
	keeper_free(k);
}
