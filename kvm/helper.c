// SPDX-License-Identifier: BSD-3-Clause
// The asking end of the helper. Run by any control thread. Invariants: one question is under way at
// a time; once an answer was wrong or did not come, none is asked any more: what comes late would
// answer another question.

#include "helper.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper_sock.h"
#include "sock_fd.h"

#define END_MS 500 // for a question that is under way: it may hold a thread of a VMM

struct helper {
	int sock; // -1: it is not to be asked any more
	pid_t pid;
	unsigned patience_ms;
	pthread_mutex_t one;
};

static int spawn(struct helper *h, const char *program, int sock, struct err *e)
{
	char *argv[] = {(char *)(uintptr_t)program, NULL}, *env[] = {NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none;
	int rc;

	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	/* What ends the daemon's terminal or group ends the daemon, and this by that. */
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, sock, HELPER_FD);
	rc = posix_spawn(&h->pid, program, &files, &attr, argv, env);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	return rc == 0 ? 0
		       : err_sys(e, rc, "cannot run %s, which attaches to unmodified VMMs",
				 program);
}

int helper_start(struct helper **out, const char *program, struct err *e)
{
	struct helper *h = calloc(1, sizeof(*h));
	int sv[2], rc;

	*out = NULL;
	if (h == NULL || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0) {
		rc = err_sys(e, h == NULL ? ENOMEM : errno, "cannot make a socket for %s", program);
		free(h);
		return rc;
	}
	h->sock = sv[0];
	helper_patience(h, HELPER_PATIENCE_MS);
	pthread_mutex_init(&h->one, NULL);
	rc = spawn(h, program, sv[1], e);
	close(sv[1]);
	if (rc < 0) {
		helper_end(h);
		return rc;
	}
	*out = h;
	return 0;
}

void helper_patience(struct helper *h, unsigned ms)
{
	struct timeval tv = {ms / 1000, (suseconds_t)(ms % 1000) * 1000};

	h->patience_ms = ms;
	setsockopt(h->sock, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
}

static bool has_ended(const struct helper *h, unsigned ms)
{
	for (unsigned i = 0; i <= ms; i++) {
		if (i > 0)
			poll(NULL, 0, 1);
		if (waitpid(h->pid, NULL, WNOHANG) != 0)
			return true;
	}
	return false;
}

/* One that hangs in the kernel does not even end when it is killed: it is not waited for. */
void helper_end(struct helper *h)
{
	if (h == NULL)
		return;
	close_fd(&h->sock);
	if (h->pid > 0 && !has_ended(h, END_MS)) {
		kill(h->pid, SIGKILL);
		has_ended(h, END_MS);
	}
	pthread_mutex_destroy(&h->one);
	free(h);
}

static int talk(
	struct helper *h, const struct helper_ask *ask, int with, struct helper_answer *a, int *fd)
{
	int rc = h->sock < 0 ? -EPIPE : sock_fd_send(h->sock, ask, sizeof(*ask), with);

	if (rc < 0)
		return rc;
	rc = helper_recv(h->sock, a, sizeof(*a), fd);
	if (rc == -EAGAIN)
		return -ETIMEDOUT;
	if (rc <= 0)
		return rc < 0 ? rc : -EPIPE;
	a->why.text[sizeof(a->why.text) - 1] = '\0';
	if (a->magic == HELPER_MAGIC && a->status <= 0 && (a->status < 0) == (*fd < 0))
		return 0;
	close_fd(fd);
	return -EPROTO;
}

/* The descriptor that answers, or -errno with e set. */
static int put(
	struct helper *h, struct helper_ask *ask, int with, struct helper_answer *a, struct err *e)
{
	int fd = -1, rc;

	ask->magic = HELPER_MAGIC;
	ask->patience_ms = h->patience_ms / HELPER_PATH_PART;
	pthread_mutex_lock(&h->one);
	rc = talk(h, ask, with, a, &fd);
	if (rc < 0)
		close_fd(&h->sock);
	pthread_mutex_unlock(&h->one);
	if (rc == -ETIMEDOUT)
		return err_set(e, ETIMEDOUT,
			"godwit-attach, which looks into VMMs, did not answer within %u s: a file "
			"of process %d may be on a file system that hangs. Restart godwitd",
			h->patience_ms / 1000, (int)ask->pid);
	if (rc < 0)
		return err_sys(e, rc == -EPIPE ? EPIPE : -rc,
			"godwit-attach, which looks into VMMs, does not answer; restart godwitd");
	if (a->status < 0) {
		if (e != NULL)
			*e = a->why;
		return a->status;
	}
	return fd;
}

static struct helper_ask *question(enum helper_op op, pid_t pid, struct err *e)
{
	struct helper_ask *ask = calloc(1, sizeof(*ask));

	if (ask == NULL) {
		err_set(e, ENOMEM, "out of memory");
		return NULL;
	}
	ask->op = op;
	ask->pid = pid;
	return ask;
}

int helper_files(struct helper *h, enum helper_op op, pid_t pid, struct attach_file **files,
	unsigned *n, struct err *e)
{
	_cleanup_(free_ptr) struct helper_ask *ask = question(op, pid, e);
	_cleanup_(close_fd) int fd = -1;
	struct helper_answer a;
	int rc;

	*files = NULL;
	*n = 0;
	if (ask == NULL)
		return -ENOMEM;
	fd = put(h, ask, -1, &a, e);
	if (fd < 0)
		return fd;
	if (a.n > HELPER_FILES)
		return err_set(
			e, E2BIG, "process %d maps more than %d files", (int)pid, HELPER_FILES);
	*files = calloc(a.n + 1, sizeof(**files));
	rc = *files == NULL ? -ENOMEM : helper_get_list(fd, *files, a.n * sizeof(**files));
	if (rc < 0) {
		free(*files);
		*files = NULL;
		return err_sys(e, -rc, "cannot read which files process %d maps", (int)pid);
	}
	*n = a.n;
	return 0;
}

int helper_open_file(struct helper *h, pid_t pid, const struct attach_file *f, struct err *e)
{
	_cleanup_(free_ptr) struct helper_ask *ask = question(HELPER_OPEN, pid, e);
	struct helper_answer a;

	if (ask == NULL)
		return -ENOMEM;
	ask->file = *f;
	return put(h, ask, -1, &a, e);
}

int helper_check(struct helper *h, pid_t pid, const struct attach_file *files, unsigned n,
	struct findings *findings, struct err *e)
{
	_cleanup_(free_ptr) struct helper_ask *ask = question(HELPER_CHECK, pid, e);
	_cleanup_(close_fd) int with = -1, fd = -1;
	struct helper_answer a;
	int rc;

	if (ask == NULL)
		return -ENOMEM;
	ask->n = n;
	with = helper_put_list(files, n * sizeof(*files));
	if (with < 0)
		return err_sys(e, -with, "cannot make a list of files");
	fd = put(h, ask, with, &a, e);
	if (fd < 0)
		return fd;
	rc = helper_get_list(fd, findings, sizeof(*findings));
	if (rc == 0 && findings->n > FINDINGS_MOST)
		rc = -EPROTO;
	return rc < 0 ? err_sys(e, -rc, "cannot read what stands against process %d", (int)pid) : 0;
}

int helper_userfaultfd(struct helper *h, struct inject *i, struct err *e)
{
	_cleanup_(free_ptr) struct helper_ask *ask = question(HELPER_UFFD, i->pid, e);
	struct helper_answer a = {0};
	int fd = ask == NULL ? -ENOMEM : put(h, ask, i->pidfd, &a, e);

	i->stopped_ns = a.stopped_ns;
	i->tid = a.tid;
	return fd;
}

int helper_pagemap(struct helper *h, pid_t pid)
{
	_cleanup_(free_ptr) struct helper_ask *ask = question(HELPER_PAGEMAP, pid, NULL);
	struct helper_answer a;

	return ask == NULL ? -ENOMEM : put(h, ask, -1, &a, NULL);
}

int helper_path(struct helper *h, pid_t pid, const char *path)
{
	_cleanup_(free_ptr) struct helper_ask *ask = question(HELPER_PATH, pid, NULL);
	struct helper_answer a;

	if (ask == NULL)
		return -ENOMEM;
	if (strlen(path) >= sizeof(ask->path))
		return -ENAMETOOLONG;
	strcpy(ask->path, path);
	return put(h, ask, -1, &a, NULL);
}
