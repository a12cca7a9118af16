/* SPDX-License-Identifier: BSD-3-Clause */
/* A writer in a process of its own, attached to: it maps the regions of a map, and writes where it
 * is told to. */
#ifndef GODWIT_TESTS_FAR_H
#define GODWIT_TESTS_FAR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "attach.h"
#include "region.h"

struct far {
	pid_t pid;
	int pidfd;
	int sock;
	struct attach *attach;
};

enum far_kind {
	FAR_PLAIN,
	FAR_VIEWS, /* maps each region twice, the second time in two pieces */
	FAR_KVM,   /* a KVM guest in that process writes */
	FAR_THP,   /* plain, on transparent huge pages */
};

/* Starts it and attaches. 0, or 1 with the reason to skip in e, or -errno. */
int far_open(struct far *f, const struct region_map *map, enum far_kind kind, struct err *e);
void far_close(struct far *f); /* far_open need not have been called on zeroed memory */

enum far_order {
	FAR_WRITE,  /* value to the first word of the page; pick chooses the mapping */
	FAR_ZAP,    /* drops the page, or all (page == UINT64_MAX), from its page table */
	FAR_UNMAP,  /* ends the region's (page's) first mapping */
	FAR_REMAP,  /* maps the region once more */
	FAR_PIN,    /* registers the page with an io_uring, which it makes */
	FAR_FIXED,  /* has that io_uring read into the page, of a file full of 'x' */
	FAR_DIRECT, /* opens a file with O_DIRECT */
};

/* Tells it what to do, and waits until it is done. page as in planes. 0 or -errno. */
int far_do(struct far *f, enum far_order order, uint64_t page, uint32_t value, unsigned pick);

/* All mappings that process pid has of the map's files, as attach_open() takes them; at most
 * `most`. Their number or -errno. */
int far_mappings(pid_t pid, const struct region_map *map, struct attach_ram *ram, unsigned most,
	struct err *e);

#endif
