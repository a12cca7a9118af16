/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest's memory. A region is one RAM file; a page is named (region, offset), never by guest
 * address alone. Views are the slots and guest addresses that show a region; aliases are further
 * views of the same file range, and bits from all views are OR-ed.
 *
 * Chunks are numbered through all regions: region r owns chunks
 * [r.first_chunk, r.first_chunk + r.nchunks), so one plane of words covers the guest. A region
 * whose size is no multiple of a chunk has a last word whose upper bits are never set. */
#ifndef GODWIT_BASE_REGION_H
#define GODWIT_BASE_REGION_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

#define PAGE_BYTES       UINT64_C(4096)
#define PAGE_SHIFT       12
#define CHUNK_PAGES      64u
#define CHUNK_BYTES      (PAGE_BYTES * CHUNK_PAGES)
#define CHUNK_SHIFT      18
#define REGION_MAX       64u                 /* regions of a guest */
#define REGION_VIEWS     64u                 /* views of a region */
#define REGION_NAME      64u                 /* bytes, with the NUL */
#define REGION_BYTES_MAX (UINT64_C(1) << 46) /* a region; 64 TiB */
#define REGION_TOTAL_MAX (UINT64_C(1) << 46) /* all regions of a guest */

/* One slot: guest-physical [gpa, gpa + bytes) shows the file's [offset, offset + bytes). */
struct view {
	uint64_t gpa;
	uint64_t offset_bytes;
	uint64_t bytes;
	uint32_t slot;  /* KVM slot number */
	uint32_t as_id; /* KVM address space */
};

struct region {
	char name[REGION_NAME];
	int fd;               /* of the RAM file; -1 if not at hand */
	uint8_t *base;        /* where this process maps it, or NULL */
	uint64_t bytes;       /* multiple of page_bytes */
	uint64_t first_chunk; /* index of its first chunk in planes */
	uint64_t nchunks;
	uint32_t page_bytes; /* backing page: 4096, 2 MiB, 1 GiB */
	int node;            /* NUMA node that its policy binds it to, or -1 */
	unsigned nviews;
	struct view views[REGION_VIEWS];
};

struct region_map {
	unsigned n;
	uint64_t nchunks; /* of all regions */
	uint64_t bytes;   /* of all regions */
	struct region r[REGION_MAX];
};

void region_map_init(struct region_map *m);

/* Adds a region, numbers its chunks, and returns its index, or -errno with e set:
 * EINVAL (size 0, no multiple of the backing page, name empty or too long, backing page unknown),
 * EEXIST (name), ENOSPC (too many regions, too much memory). fd stays the caller's. */
int region_add(struct region_map *m, const char *name, int fd, uint64_t bytes, uint32_t page_bytes,
	struct err *e);

/* Adds a view to region r. EINVAL: not page-aligned, outside the region, empty; ENOSPC. */
int region_add_view(struct region *r, const struct view *v, struct err *e);

/* The region that owns the chunk, or NULL when there is none. */
struct region *region_of_chunk(struct region_map *m, uint64_t chunk);

/* The bits of a chunk's word that are pages: all ones but in a region's last chunk. */
uint64_t region_chunk_mask(const struct region *r, uint64_t chunk_in_region);

/* Address of page 0 of a chunk in this process. The region is mapped, the chunk inside it. */
static inline uint8_t *region_chunk_addr(const struct region *r, uint64_t chunk_in_region)
{
	return r->base + (chunk_in_region << CHUNK_SHIFT);
}

/* Maps region r shared from r->fd. NORESERVE; populates nothing. -errno with e set. */
int region_mmap(struct region *r, bool writable, struct err *e);

/* Unmaps all, closes all fds, empties the map. */
void region_map_close(struct region_map *m);

#endif
