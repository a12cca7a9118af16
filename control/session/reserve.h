/* SPDX-License-Identifier: BSD-3-Clause */
/* Is there memory for the guest that is to come? Asked before anything is touched, so that a lack
 * of it is a clear refusal and no SIGBUS on the way. */
#ifndef GODWIT_CONTROL_RESERVE_H
#define GODWIT_CONTROL_RESERVE_H

#include <stdint.h>
#include <sys/types.h>

#include "err.h"
#include "region.h"

enum reserve_kind {
	RESERVE_HOST,  /* its memory in pages of 4 KiB */
	RESERVE_NODE,  /* the same of the NUMA node that regions are bound to */
	RESERVE_HUGE,  /* a pool of huge pages: of the host, or of a node */
	RESERVE_FILES, /* room of the file system that RAM files are on */
};

/* Somewhere that memory is taken from. */
struct reserve_place {
	enum reserve_kind kind;
	int node;                /* or -1 */
	uint32_t page_bytes;     /* of the pool */
	dev_t dev;               /* of the file system */
	int fd;                  /* a file on it */
	uint64_t region_bytes;   /* of the guest's regions that take from here */
	uint64_t there_bytes;    /* that their files have already */
	uint64_t need_bytes;     /* still to be taken: at least this, however the guest is spread */
	uint64_t promised_bytes; /* to other guests, from here */
};

struct reserve {
	unsigned n;
	struct reserve_place place[1 + 2 * REGION_MAX];
};

/* What a guest that populates so many bytes of the whole of it takes, and where from. What the
 * files hold already counts as there. */
void reserve_needs(struct reserve *r, const struct region_map *map, uint64_t bytes);
/* Books what another guest, which is on its way, still takes from the same places. */
void reserve_promise(struct reserve *r, const struct region_map *map, uint64_t bytes);

/* Looks at each place, moreover at the memory limits of the control groups that this process is in.
 * A look, and no more: memory that something else takes later is missing then; reserve=populate
 * takes it for certain. root: where /proc and /sys are, "" on a host. 0 or -ENOMEM with e set. */
int reserve_check(const struct reserve *r, const char *root, struct err *e);

/* A guest that is all here: where it has holes left there is room for a few more pages. Without,
 * SIGBUS ends its VMM at the next one that it touches, or a device that is loaded does. 0 or
 * -ENOMEM with e set. */
int reserve_check_next(const struct region_map *map, const char *root, struct err *e);

/* Fills in r->node from the memory policy of the mapped region (-1: none binds it to one node). */
void reserve_find_nodes(struct region_map *map);

#endif
