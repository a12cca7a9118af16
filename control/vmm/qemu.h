/* SPDX-License-Identifier: BSD-3-Clause */
/* What Godwit knows of an unmodified QEMU: its process, its RAM, what it is made of, and what
 * stands against moving its guest. Asked over QMP by one thread, which waits: the driver's, or
 * godwit doctor. Looking changes nothing. */
#ifndef GODWIT_CONTROL_QEMU_H
#define GODWIT_CONTROL_QEMU_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "attach.h"
#include "err.h"
#include "finding.h"
#include "qmp.h"
#include "region.h"
#include "vmm_where.h"

#define QEMU_NAME    64u
#define QEMU_MACHINE "/machine" /* in the tree of its objects */
#define QEMU_OBJECTS "/objects"

/* A memory backend that the machine uses. */
struct qemu_ram {
	char id[REGION_NAME]; /* of its object */
	char type[32];        /* "memory-backend-file" */
	uint64_t bytes;
	bool share;
	uint64_t gpa;         /* a guest address that shows it */
	uint64_t addr;        /* in QEMU: of its first byte; 0 where QEMU does not tell */
	int file;             /* index into files; -1: maps no file there, shared by nobody */
	uint64_t file_offset; /* of its first byte */
};

struct qemu {
	struct qmp *qmp;
	pid_t pid;
	int pidfd;
	struct helper *by; /* who looks into it; NULL: this process */
	char name[QEMU_NAME];
	char status[32]; /* as query-status told last */
	bool running;
	bool kvm;
	bool balloon;    /* as qemu_check() found it last: memory may be discarded */
	json_t *plugged; /* memory that was plugged in, as query-memory-devices told at first */
	unsigned nram;
	struct qemu_ram ram[REGION_MAX];
	unsigned nfiles;
	struct attach_file *files;
};

/* Connects and finds the process. 0 or -errno with e set; qemu_close() in either case. */
int qemu_open(struct qemu *u, const struct vmm_where *where, unsigned timeout_ms, int cancel_fd,
	struct err *e);
void qemu_close(struct qemu *u);

/* query-status into status and running. */
int qemu_ask_status(struct qemu *u, struct err *e);
/* A property of an object; -EREMOTEIO: there is none. New reference. */
int qemu_get(struct qmp *q, const char *path, const char *property, json_t **value, struct err *e);
/* The children of an object: {"name": "type"}. New reference. */
int qemu_children(struct qmp *q, const char *path, json_t **children, struct err *e);

/* qemu_ram.c: the backends and their files, ordered by guest address. */
int qemu_find_ram(struct qemu *u, struct err *e);
/* Adds a region for each, with an open fd. -errno with e set: not all RAM is in shared files. */
int qemu_map_ram(const struct qemu *u, struct region_map *map, struct err *e);
/* Memory that was plugged in or out since qemu_find_ram() is in no region, and x-ignore-shared
 * keeps it out of the device state: -EBUSY with its name in e. One question: cheap enough for a
 * pause. */
int qemu_check_plugged(struct qemu *u, struct err *e);
/* For attach_open(): where QEMU maps each region. Returns how many. */
unsigned qemu_mappings(const struct qemu *u, struct attach_ram *ram, unsigned most);

/* qemu_views.c: what the human monitor prints. Pure. */
/* The first line of `info mtree -f` that shows RAM of that name. */
bool qemu_view_of(const char *mtree, const char *name, uint64_t *gpa, uint64_t *offset);
/* The address of gpa2hva's answer; 0: it has none. */
uint64_t qemu_host_address(const char *text);
/* A register of `info registers -a` has one of the bits, on any CPU. */
bool qemu_register_has(const char *text, const char *name, uint64_t bits);

/* qemu_about.c: what the target is compared by, before anything is touched. */
int qemu_describe(struct qemu *u, json_t **about, struct err *e);
/* theirs: from the other daemon, not trusted. 0, or -EINVAL with the first difference in e. */
int qemu_compare(const json_t *theirs, const json_t *here, struct err *e);

/* qemu_check.c: what stands against moving the guest, each with its cure. -errno with e set only
 * where QEMU could not be asked. */
int qemu_check(struct qemu *u, const struct vmm_where *where, struct findings *f, struct err *e);
/* The part of it that looks at the process; direct: files that it reads past the page cache too. */
int qemu_check_tracking(const struct qemu *u, bool direct, struct findings *f, struct err *e);
/* A guest that runs guests of its own: -ENOTSUP; it may begin so at any time. */
int qemu_check_nested(struct qemu *u, struct err *e);

#endif
