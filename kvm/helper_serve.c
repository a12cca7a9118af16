// SPDX-License-Identifier: BSD-3-Clause
// The helper's end: does what it is asked, in its one thread. It believes nothing of a question but
// what it has checked: texts end, counts are bounded, a file is found again in the process itself.

#include "helper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attach_ram.h"
#include "helper_sock.h"
#include "pagemap.h"
#include "sock_fd.h"

static int list(const struct helper_ask *ask, struct helper_answer *a)
{
	_cleanup_(free_ptr) struct attach_file *files = NULL;
	unsigned n = 0;
	int rc = ask->op == HELPER_LIST ? attach_list(NULL, ask->pid, &files, &n, &a->why)
					: attach_files(NULL, ask->pid, &files, &n, &a->why);

	if (rc < 0)
		return rc;
	a->n = n;
	rc = helper_put_list(files, n * sizeof(*files));
	return rc < 0 ? err_sys(&a->why, -rc, "cannot make a list of files") : rc;
}

/* A byte that is neither true nor false would be undefined to read as either. */
static bool is_bool(const bool *b)
{
	uint8_t byte;

	memcpy(&byte, b, 1);
	return byte <= 1;
}

static bool is_file(const struct attach_file *f)
{
	return f->n <= ATTACH_VIEWS && is_bool(&f->deleted) && is_bool(&f->shared) &&
	       is_bool(&f->writable) && memchr(f->path, '\0', sizeof(f->path)) != NULL;
}

static int check(const struct helper_ask *ask, int with, pid_t asker, struct helper_answer *a)
{
	_cleanup_(free_ptr) struct attach_file *files = calloc(ask->n + 1, sizeof(*files));
	_cleanup_(free_ptr) struct findings *found = calloc(1, sizeof(*found));
	int rc = files == NULL || found == NULL ? -ENOMEM : 0;

	if (rc == 0)
		rc = helper_get_list(with, files, ask->n * sizeof(*files));
	for (unsigned i = 0; rc == 0 && i < ask->n; i++)
		if (!is_file(&files[i]))
			rc = -EPROTO;
	if (rc == 0) {
		attach_check_for(asker, ask->pid, files, ask->n, found);
		rc = helper_put_list(found, sizeof(*found));
	}
	return rc < 0 ? err_sys(&a->why, -rc, "cannot check process %d", (int)ask->pid) : rc;
}

static int make_uffd(const struct helper_ask *ask, int pidfd, struct helper_answer *a)
{
	struct inject i = {.pid = ask->pid, .pidfd = pidfd};
	int fd = inject_userfaultfd(&i, &a->why);

	a->stopped_ns = i.stopped_ns;
	a->tid = i.tid;
	return fd;
}

/* In a process of its own, which looks into a tree that is not ours: a file system that hangs
 * (network, FUSE) takes that one along, and nobody else waits for it. */
static int open_apart(const struct helper_ask *ask)
{
	struct pollfd answer;
	int sv[2], fd = -1, rc;
	pid_t child;

	while (waitpid(-1, NULL, WNOHANG) > 0)
		; /* what hung before, and has ended since */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return -errno;
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close_range(3, (unsigned)sv[1] - 1, 0);
		fd = attach_path(NULL, ask->pid, ask->path);
		rc = fd < 0 ? fd : 0;
		sock_fd_send(sv[1], &rc, sizeof(rc), fd);
		for (;;)
			pause(); /* it is killed */
	}
	rc = child < 0 ? -errno : 0;
	close(sv[1]);
	answer = (struct pollfd){.fd = sv[0], .events = POLLIN};
	if (rc == 0 && poll(&answer, 1, (int)ask->patience_ms) != 1)
		rc = -ETIMEDOUT;
	else if (rc == 0 && helper_recv(sv[0], &rc, sizeof(rc), &fd) != 1)
		rc = -EIO;
	close(sv[0]);
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, rc == -ETIMEDOUT ? WNOHANG : 0);
	}
	return fd >= 0 ? fd : rc < 0 ? rc : -EPROTO;
}

static int open_path(const struct helper_ask *ask, struct helper_answer *a)
{
	int fd = open_apart(ask);

	return fd < 0 ? err_sys(&a->why, -fd, "cannot look at a path of process %d", (int)ask->pid)
		      : fd;
}

/* Only RAM: what the process maps shared and for writing, at that address, now. */
static int open_file(const struct helper_ask *ask, struct helper_answer *a)
{
	_cleanup_(free_ptr) struct attach_file *files = NULL;
	const struct attach_file *f = &ask->file;
	unsigned n = 0;
	int rc = attach_list(NULL, ask->pid, &files, &n, &a->why);

	for (unsigned i = 0; rc == 0 && i < n; i++)
		if (files[i].ino == f->ino && files[i].dev == f->dev && files[i].shared &&
			files[i].writable && f->n > 0 && files[i].ram[0].addr == f->ram[0].addr)
			return attach_open_file(NULL, ask->pid, &files[i], &a->why);
	return rc < 0 ? rc
		      : err_set(&a->why, ESTALE, "process %d does not map %s as its RAM any more",
				(int)ask->pid, f->path);
}

static int open_pagemap(const struct helper_ask *ask, struct helper_answer *a)
{
	int fd = pagemap_open(ask->pid);

	return fd < 0 ? err_sys(&a->why, -fd, "cannot open the pagemap of process %d",
				(int)ask->pid)
		      : fd;
}

static bool believable(const struct helper_ask *ask, int with)
{
	bool takes = ask->op == HELPER_CHECK || ask->op == HELPER_UFFD;

	return ask->magic == HELPER_MAGIC && ask->op > 0 && ask->op < HELPER_OPS && ask->pid > 0 &&
	       ask->n <= HELPER_FILES && ask->patience_ms <= HELPER_PATIENCE_MS &&
	       is_file(&ask->file) && takes == (with >= 0) &&
	       memchr(ask->path, '\0', sizeof(ask->path)) != NULL;
}

/* The descriptor of the answer, or -errno with why. */
static int carry_out(const struct helper_ask *ask, int with, pid_t asker, struct helper_answer *a)
{
	switch (ask->op) {
	case HELPER_OPEN:
		return open_file(ask, a);
	case HELPER_CHECK:
		return check(ask, with, asker, a);
	case HELPER_UFFD:
		return make_uffd(ask, with, a);
	case HELPER_PAGEMAP:
		return open_pagemap(ask, a);
	case HELPER_PATH:
		return open_path(ask, a);
	default:
		return list(ask, a);
	}
}

int helper_serve(int sock)
{
	_cleanup_(free_ptr) struct helper_ask *ask = malloc(sizeof(*ask));
	struct ucred asker;
	socklen_t len = sizeof(asker);
	int with, rc = ask == NULL ? -ENOMEM : 1;

	/* Whoever made the socket: the daemon, whose own mappings of RAM are no stranger's. */
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &asker, &len) < 0)
		return -errno;
	while (rc > 0 && (rc = helper_recv(sock, ask, sizeof(*ask), &with)) > 0) {
		struct helper_answer a = {.magic = HELPER_MAGIC};
		int fd;

		if (!believable(ask, with)) {
			close_fd(&with);
			return -EPROTO;
		}
		fd = carry_out(ask, with, asker.pid, &a);
		a.status = fd < 0 ? fd : 0;
		close_fd(&with);
		rc = sock_fd_send(sock, &a, sizeof(a), fd);
		close_fd(&fd);
		rc = rc < 0 ? rc : 1;
	}
	return rc == -EPIPE ? 0 : rc;
}
