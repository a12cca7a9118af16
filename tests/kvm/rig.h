/* SPDX-License-Identifier: BSD-3-Clause */
/* A dirty source with memory and something that writes it, one for each row and backing. */
#ifndef GODWIT_TESTS_RIG_H
#define GODWIT_TESTS_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "far.h"
#include "kvm_ring.h"
#include "source.h"

struct guest32;

struct rig {
	const struct rig_kind *kind;
	struct region_map map;
	struct source *source;
	struct source *parts[3]; /* of "several": the first, vmm-writes, vhost-log */
	struct guest32 *guest;   /* kvm rows */
	struct ring_vcpus vcpus;
	/* vhost-log: a back end that writes a word at a guest address and logs it; NULL: the rig
	 * plays one. */
	void (*card)(void *arg, uint64_t gpa, uint32_t value);
	void *card_arg;
	uint64_t full;  /* times that the ring was full */
	struct far far; /* rows that write from another process */
	uint32_t huge;  /* huge pages that were reserved for it */
};

struct rig_kind {
	const char *name;
	const struct source_ops *ops;
	uint32_t page_bytes;
	bool kvm;              /* a guest writes, through slots */
	uint32_t ring_entries; /* kvm-ring */
	bool far;              /* another process writes */
	enum far_kind far_kind;
};

extern const struct rig_kind rig_kinds[]; /* ended by a name of NULL */

/* 0, or 1 with the reason to skip in e, or -errno. */
int rig_open(struct rig *r, const struct rig_kind *kind, struct err *e);
void rig_close(struct rig *r);

/* Writes value to the first word of a page (chunk * 64 + bit). pick chooses among its views. */
void rig_write(struct rig *r, uint64_t page, uint32_t value, unsigned pick);
uint32_t rig_read(const struct rig *r, uint64_t page);
/* Whether the page is one, and one that this rig can write. */
bool rig_page(struct rig *r, uint64_t page);

#endif
