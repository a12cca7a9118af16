/* SPDX-License-Identifier: BSD-3-Clause */
/* The disks of a QEMU's guest: which image each is, for the comparison of both sides; those that
 * write guest memory where no one sees it (law 2), and the cure. */
#ifndef GODWIT_CONTROL_QEMU_DISK_H
#define GODWIT_CONTROL_QEMU_DISK_H

#include "qemu.h"

/* Adds "disks" to about: an object, for each device the chain of its images. */
int qemu_describe_disks(struct qemu *u, json_t *about, struct err *e);
/* Each disk is the same image on both sides? -EINVAL names the first that is not. shared: the
 * operator says so of those that have no identity but their name. */
int qemu_compare_disks(const json_t *theirs, const json_t *here, bool shared, struct err *e);
/* They are what they were when they were described: -EBUSY names one that is not. */
int qemu_check_disks_stay(struct qemu *u, const json_t *disks, struct err *e);

/* Findings: nodes that bypass the page cache (unless they are to be cured), drivers that are not
 * known to be seen. */
int qemu_check_disks(struct qemu *u, bool cure, struct findings *f, struct err *e);

/* Names of the nodes that bypass the page cache, an array of strings. New reference. */
int qemu_direct_nodes(struct qemu *u, json_t **nodes, struct err *e);
/* The human monitor's command that reopens one. */
#define QEMU_DIRECT_LINE 128u
void qemu_direct_line(const char *node, bool direct, char line[QEMU_DIRECT_LINE]);
/* Reopens them with cache.direct off, keeping all other options, and looks whether it took; ends at
 * the first that does not. Waits until no request with pinned pages is under way. Or on again: all
 * that are still there, whatever one of them says. */
int qemu_set_direct(struct qemu *u, const json_t *nodes, bool direct, struct err *e);

#endif
