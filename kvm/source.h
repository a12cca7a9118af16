/* SPDX-License-Identifier: BSD-3-Clause */
/* The dirty-source port: something that can tell which pages were written since it was last armed.
 * Runs in the VMM's process (libgodwit) or, for sources that work from outside, in godwitd.
 *
 * Words are one per chunk in the numbering of the region map; functions take words of the given
 * range only. A source reports a page at least until it was armed. Contract, tested for each row by
 * one conformance suite: after start, for any write W to a page, either the page is in the want or
 * out words of an arm() that began after W, or it is in those of the next look(). arm() consumes
 * only reports of pages in `want`, or returns them in `out`, or, where a granule reaches past the
 * range, reports them again in the next look(). */
#ifndef GODWIT_KVM_SOURCE_H
#define GODWIT_KVM_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "region.h"

/* Who is seen: law 2. */
enum source_writers {
	SOURCE_SEES_VCPU = 1 << 0,    /* vCPUs */
	SOURCE_SEES_THREADS = 1 << 1, /* threads of the VMM's process, where they fault */
	SOURCE_SEES_TOLD = 1 << 2,    /* what the VMM tells */
	SOURCE_SEES_VHOST = 1 << 3,   /* vhost and vhost-user back ends, where they log */
};

struct attach;
struct source;
struct ring_vcpus;

struct source_info {
	uint64_t granule_bytes; /* what it can tell apart */
	unsigned writers;       /* enum source_writers */
	bool starts_all_dirty;  /* the first look reports every page */
	const char *mode;       /* a word more on how it works here, for people: "manual protect" */
};

struct source_config {
	struct region_map *map;     /* bases mapped in this process; lives as long as the source */
	int vm_fd;                  /* or -1 */
	const uint32_t *slot_flags; /* of each view, region by region; NULL: 0 */
	/* pagemap-scan only. Not NULL: the writer is the process attached to (attach.h), and what
	 * is tracked are its mappings; bases are not looked at. Lives longer than the source. */
	struct attach *attach;
	struct ring_vcpus *vcpus; /* kvm-ring: see kvm_ring.h; lives as long as the source */
};

struct source_ops {
	const char *name;
	/* Makes it; checks that the kernel offers it and tests itself on the backing. */
	int (*open)(struct source **s, const struct source_config *c, struct err *e);
	void (*info)(const struct source *s, struct source_info *info);
	int (*start)(struct source *s, struct err *e);
	/* Cheap look: out[c] |= pages of chunk c written and not armed since, for all chunks.
	 * Touches only words that are not zero. last: covers all, guest paused. Returns pages or
	 * -errno. */
	int64_t (*look)(struct source *s, uint64_t *out, bool last, struct err *e);
	/* Arms [first, first + n): want, out are indexed from the first chunk of the range. */
	int64_t (*arm)(struct source *s, uint64_t first, uint64_t n, const uint64_t *want,
		uint64_t *out, struct err *e);
	/* Pages armed but not sent: the next look reports them. */
	void (*put_back)(struct source *s, uint64_t first, uint64_t n, const uint64_t *words);
	/* Stops tracking; leaves memory as it was found. Idempotent. */
	int (*stop)(struct source *s, struct err *e);
	void (*close)(struct source *s); /* NULL is allowed */
};

/* Each row embeds this first. */
struct source {
	const struct source_ops *ops;
};

/* The rows, ended by NULL. */
extern const struct source_ops *const source_table[];
const struct source_ops *source_find(const char *name);

extern const struct source_ops source_kvm_log;
/* The same for kernels, or tests, without manual protect: each look clears the whole log, which is
 * kept here until it is armed. Not in the table: source_kvm_log falls back to it, and says so. */
extern const struct source_ops source_kvm_log_legacy;
extern const struct source_ops source_kvm_ring; /* see kvm_ring.h */
extern const struct source_ops source_pagemap_scan;
extern const struct source_ops source_vhost_log;  /* see vhost_log.h */
extern const struct source_ops source_vmm_writes; /* see vmm_writes.h */
extern const struct source_ops source_fake;       /* see source_fake.h */

#endif
