/* SPDX-License-Identifier: BSD-3-Clause */
/* A small process that looks into others, so that the daemon need not have the right to: attaching
 * to a VMM takes ptrace, which is the right to do anything to it. The daemon starts it before it
 * gives its own rights up; the functions of attach.h that take a `struct helper` ask it, or, with
 * NULL, do it themselves.
 *
 * What can be asked, and no more: which files a process maps writable, what stands against tracking
 * it, a descriptor of such a file, of its pagemap, of a userfaultfd made within it, and of a path
 * as it sees it (O_PATH: to be compared, not read). The protocol is this file's and helper.c's own:
 * a SOCK_SEQPACKET socket, one question and one answer at a time, of fixed size, with a descriptor
 * where there is one; lists are in a memfd. Both ends are of one build, and say so. */
#ifndef GODWIT_KVM_HELPER_H
#define GODWIT_KVM_HELPER_H

#include <stdint.h>
#include <sys/types.h>

#include "attach.h"
#include "err.h"
#include "finding.h"
#include "inject.h"

#define HELPER_FD          3     /* the program's end of the socket */
#define HELPER_FILES       4096  /* in a list, at most */
#define HELPER_PATIENCE_MS 30000 /* for an answer; after that it is not asked any more */
#define HELPER_PATH_PART   6     /* of that, for a path: file systems hang */

enum helper_op {
	HELPER_LIST = 1, /* attach_list() */
	HELPER_FILES_OF, /* attach_files() */
	HELPER_OPEN,     /* attach_open_file(), of ask.file */
	HELPER_CHECK,    /* attach_check(); n files in the memfd that came along */
	HELPER_UFFD,     /* inject_userfaultfd(); a pidfd came along */
	HELPER_PAGEMAP,  /* pagemap_open() */
	HELPER_PATH,     /* attach_path(), of ask.path */
	HELPER_OPS
};

struct helper_ask {
	uint32_t magic; /* HELPER_MAGIC */
	uint32_t op;
	int32_t pid;
	uint32_t n;
	uint32_t patience_ms; /* that a path is waited for */
	char path[4096];
	struct attach_file file;
};

struct helper_answer {
	uint32_t magic;
	int32_t status; /* 0 or -errno with why */
	uint32_t n;     /* in the memfd that comes along */
	int32_t tid;
	uint64_t stopped_ns;
	struct err why;
};

/* Of this build's layout: programs of two builds don't understand each other. */
#define HELPER_MAGIC                                                                               \
	(0x67770000u ^ (uint32_t)(sizeof(struct helper_ask) << 8) ^                                \
		(uint32_t)sizeof(struct helper_answer))

struct helper;

/* Runs the program. Any thread may ask; one at a time is served. 0 or -errno with e set. */
int helper_start(struct helper **h, const char *program, struct err *e);
/* Another patience than HELPER_PATIENCE_MS, for tests. */
void helper_patience(struct helper *h, unsigned ms);
/* Nobody asks any more. A program that does not end by that is killed. NULL is allowed. */
void helper_end(struct helper *h);

/* In the program: answers on sock until its other end is closed. 0, or -errno: a question that is
 * none. */
int helper_serve(int sock);

/* The questions, as attach.h and inject.h have them. h is not NULL. */
int helper_files(struct helper *h, enum helper_op op, pid_t pid, struct attach_file **files,
	unsigned *n, struct err *e);
int helper_open_file(struct helper *h, pid_t pid, const struct attach_file *f, struct err *e);
int helper_check(struct helper *h, pid_t pid, const struct attach_file *files, unsigned n,
	struct findings *findings, struct err *e);
int helper_userfaultfd(struct helper *h, struct inject *i, struct err *e);
int helper_pagemap(struct helper *h, pid_t pid);
int helper_path(struct helper *h, pid_t pid, const char *path);

#endif
